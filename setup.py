"""Packages, dependencies and commands. Name, description and licence are in pyproject.toml."""

from setuptools import find_packages, setup

PACKAGES = ["cmclrec_tf", "pipeline", "serving", "experiments"]

# pip adds extras to install_requires, so that has only what every command needs.
CLIENT = ["grpcio", "protobuf>=3.20"]
LIBRARY = ["tensorflow>=2.16", "keras>=3.12"]
SERVING = [
    *LIBRARY,
    *CLIENT,
    "grpcio-health-checking",
    "grpcio-reflection",
    "tensorflow-serving-api>=2.16",
    # Older ones keep connections that send nothing, and read lines of any length.
    "aiohttp>=3.14.4",
    "prometheus-client",
    # Draws the plot of a load test.
    "matplotlib",
]

setup(
    version="0.2.0",
    packages=find_packages(include=[name for top in PACKAGES for name in (top, f"{top}.*")]),
    package_data={
        "cmclrec_tf": ["py.typed", "presets/*.yaml"],
        "serving": ["py.typed"],
        "pipeline": ["datasets/*.yaml"],
    },
    install_requires=[
        "numpy",
        "pyyaml",
        "click>=8",
        "tqdm",
    ],
    extras_require={
        # `serving.client` and `cmclrec recommend`, without TensorFlow.
        "client": CLIENT,
        # `import cmclrec_tf`: models, training and evaluation.
        "library": LIBRARY,
        # The same on a GPU: 3 GB of NVIDIA's libraries, next to its driver.
        "gpu": [*LIBRARY, "tensorflow[and-cuda]>=2.16; sys_platform == 'linux'"],
        "serving": SERVING,
        # Indexes for offline retrieval. ScaNN 1.3 is the newest that loads with TensorFlow 2.16.
        "retrieval": [
            *LIBRARY,
            "tensorflow-recommenders",
            "scann>=1.3,<1.4",
            "tf-keras>=2.16,<2.17",
        ],
        # TFX 1.16 is the newest whose wheels install on glibc 2.36. TFT needs dill and
        # pkg_resources, which newer Beam and setuptools do not bring.
        # `cmclrec quickstart` serves the pushed model.
        "pipeline": [
            *SERVING,
            "tfx[kfp]==1.16.0",
            "apache-beam[gcp]>=2.74,<2.75",
            # TFX needs pyarrow 10, which runs code from Parquet files without it.
            "pyarrow-hotfix",
            "dill==0.3.1.1",
            "setuptools<81",
            "pip",
            "tf-keras>=2.16,<2.17",
            "keras-tuner",
            # Writes the model card.
            "markdown",
        ],
        # Needs `pipeline` too, which prepares missing datasets.
        "experiments": [
            *LIBRARY,
            "pyarrow",
            "pyarrow-hotfix",
            "keras-tuner",
            "scikit-learn",
            "scipy",
            "matplotlib",
            # The row `two-tower`.
            "tensorflow-recommenders",
            "tf-keras>=2.16,<2.17",
        ],
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
        # Each package registers its commands here; the command line imports one when it is called.
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
