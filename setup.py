"""The package `cmclrec_tf`, with its pipeline, serving and experiments rooms as extras."""

import pathlib

from setuptools import find_packages, setup

ROOMS = ["cmclrec_tf", "pipeline", "serving", "experiments"]

setup(
    name="cmclrec-tf",
    version="0.1.0",
    description="Recommendations for users without history: CMCLRec on Keras, TFX and TF Serving",
    long_description=pathlib.Path(__file__).with_name("README.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=find_packages(include=[pattern for room in ROOMS for pattern in (room, f"{room}.*")]),
    package_data={
        "cmclrec_tf": ["py.typed", "presets/*.yaml"],
        "serving": ["py.typed"],
        "pipeline": ["datasets/*.yaml"],
    },
    install_requires=[
        "tensorflow>=2.16",
        "keras>=3.12",
        "numpy",
        "pyyaml",
        "click>=8",
        "tqdm",
    ],
    extras_require={
        "serving": [
            "grpcio",
            "grpcio-health-checking",
            "grpcio-reflection",
            "tensorflow-serving-api>=2.16",
            "aiohttp",
            "prometheus-client",
            # For the plot of a load test.
            "matplotlib",
        ],
        # Indexes for offline retrieval; the newest ScaNN that goes with TensorFlow 2.16.
        "retrieval": ["tensorflow-recommenders", "scann>=1.3,<1.4", "tf-keras>=2.16,<2.17"],
        # TFX 1.16 is the newest whose wheels install on glibc 2.36; TFT needs dill and
        # pkg_resources, which Beam and newer setuptools no longer bring.
        "pipeline": [
            "tfx[kfp]==1.16.0",
            "apache-beam[gcp]>=2.74,<2.75",
            "dill==0.3.1.1",
            "setuptools<81",
            "pip",
            "tf-keras>=2.16,<2.17",
            "keras-tuner",
            # For the model card.
            "markdown",
            "matplotlib",
        ],
        # Beside `pipeline`, which prepares what is not there yet.
        "experiments": ["pyarrow", "keras-tuner", "scikit-learn", "scipy", "matplotlib"],
        "dev": [
            "pytest",
            "pytest-xdist",
            "ruff",
            "mypy",
            "codespell",
            "types-PyYAML",
            "types-protobuf<4",
            "types-tqdm",
            "types-Markdown",
            "grpc-stubs",
            "hypothesis",
            # Schemas of Kubernetes manifests and of compose files.
            "kubernetes-validate",
            "check-jsonschema",
        ],
    },
    entry_points={
        "console_scripts": ["cmclrec=cmclrec_tf.cli:main"],
        # Each room registers its command groups here; the CLI imports a room only when it is asked.
        "cmclrec.commands": [
            "train=cmclrec_tf.train_cli:train",
            "serve=serving.commands.serve:serve",
            "recommend=serving.commands.recommend:recommend",
            "loadtest=serving.commands.loadtest:loadtest",
            "versions=serving.commands.versions:versions",
            "index=serving.commands.index:index",
            "prepare=pipeline.commands.cli:prepare",
            "pipeline=pipeline.commands.cli:pipeline",
            "quickstart=pipeline.commands.cli:quickstart",
            "experiment=experiments.cli:experiment",
        ],
    },
)
