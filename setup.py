"""Packages, dependencies and commands. Name, description and licence are in pyproject.toml."""

from setuptools import find_packages, setup

PACKAGES = ["cmclrec_tf", "pipeline", "serving", "experiments"]

# TFX 1.16 installs on every glibc and, with its Kubeflow extra, on Python 3.10 only. TFX 1.21 needs
# glibc 2.39, which a requirement cannot say.
OLD = "python_version < '3.11'"
NEW = "python_version >= '3.11'"

# pip adds extras to install_requires, so that has only what every command needs.
CLIENT = ["grpcio", "protobuf>=3.20"]
LIBRARY = ["tensorflow>=2.16", "keras>=3.12"]
# TensorFlow 2.21 does not bring it, and training with a log folder needs it.
TRAINING = [*LIBRARY, "tensorboard"]
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
        "library": TRAINING,
        # The same on a GPU: 3 GB of NVIDIA's libraries, next to its driver.
        "gpu": [*TRAINING, "tensorflow[and-cuda]>=2.16; sys_platform == 'linux'"],
        "serving": SERVING,
        # Indexes for offline retrieval. ScaNN 1.3 is the newest that loads with TensorFlow, up to
        # 2.18; on newer Pythons there are the exact indexes.
        "retrieval": [
            *LIBRARY,
            "tensorflow-recommenders",
            "scann>=1.3,<1.4; python_version < '3.12' and sys_platform == 'linux'",
            "tf-keras>=2.16",
        ],
        # `cmclrec quickstart` serves the pushed model.
        "pipeline": [
            *SERVING,
            *TRAINING,
            f"tfx[kfp]==1.16.0; {OLD}",
            f"apache-beam[gcp]>=2.74,<2.75; {OLD}",
            # TFT 1.16 needs what newer Beam and setuptools do not bring.
            f"dill==0.3.1.1; {OLD}",
            f"setuptools<81; {OLD}",
            f"tfx>=1.21,<1.22; {NEW}",
            f"apache-beam[gcp]>=2.77,<2.78; {NEW}",
            # What tfx[kfp] asks for on older Pythons only.
            f"kfp>=2.16,<2.17; {NEW}",
            f"kfp-pipeline-spec>=2.16,<2.17; {NEW}",
            # Old pyarrow runs code from Parquet files without it.
            "pyarrow-hotfix",
            "pip",
            "tf-keras>=2.16",
            "keras-tuner",
            # Writes the model card.
            "markdown",
        ],
        # Needs `pipeline` too, which prepares missing datasets.
        "experiments": [
            *TRAINING,
            "pyarrow",
            "pyarrow-hotfix",
            "keras-tuner",
            "scikit-learn",
            "scipy",
            "matplotlib",
            # The row `two-tower`.
            "tensorflow-recommenders",
            "tf-keras>=2.16",
        ],
        "dev": [
            "pytest",
            "pytest-xdist",
            "ruff",
            "mypy",
            "codespell",
            "types-PyYAML",
            f"types-protobuf<4; {OLD}",
            f"types-protobuf>=6; {NEW}",
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
