"""Packages and dependencies of newsdesk; everything else is in ``pyproject.toml``.

The four packages are named here, so that Beam's ``--setup_file`` builds the same distribution that
``pip`` and ``uv`` do. Two stacks are supported and the Python version decides which: the newer one
needs glibc 2.39, see ``docs/adr/0001-stack-by-python-version.md``.
"""

from setuptools import find_packages, setup

OLDER = "python_version == '3.11'"
NEWER = "python_version >= '3.12'"

setup(
    packages=find_packages(
        include=[f"{name}{sub}" for name in ("pipeline", "components", "trainers", "serving") for sub in ("", ".*")]
    ),
    package_data={
        "components.example_gen": ["schema.pbtxt", "sample/*.csv", "sample/*.md"],
        "components.report": ["templates/*"],
        "components.gates": ["*/templates/*"],
        "pipeline.config": ["presets/*"],
        "pipeline.runners": ["entrypoint.sh"],
        "pipeline.schedule": ["templates/*"],
        "serving": ["openapi.json", "deploy/*"],
        "serving.page": ["*.html", "*.css", "*.js", "*.svg"],
    },
    install_requires=[
        f"tfx==1.16.0; {OLDER}",
        f"tfx==1.21.0; {NEWER}",
        f"tensorflow==2.16.2; {OLDER}",
        f"tensorflow==2.21.0; {NEWER}",
        f"tensorflow-text>=2.16,<2.17; {OLDER}",
        f"tensorflow-text>=2.21,<2.22; {NEWER}",
        f"tf-keras>=2.16,<2.17; {OLDER}",
        f"tf-keras>=2.21,<2.22; {NEWER}",
        # 2.65 drops dill, which tfx-bsl 1.16 imports.
        f"apache-beam>=2.64,<2.65; {OLDER}",
        f"apache-beam>=2.77,<2.78; {NEWER}",
        f"kfp>=2.13,<2.14; {OLDER}",
        f"kfp>=2.16,<2.17; {NEWER}",
        f"protobuf>=6.33.5; {NEWER}",
        # For pyarrow below 14.0.1 (CVE-2023-47248), which tfx 1.16 pins.
        f"pyarrow-hotfix>=0.6; {OLDER}",
        "tensorflow-hub>=0.16.1",
        "mlflow>=3.17.2,<3.18",
        "charset-normalizer>=3.4",
        "click>=8.2,<9",
        "cronsim>=2.7",
        "filelock>=3.16",
        "httptools>=0.6.4",
        "jinja2>=3.1.6",
        "matplotlib>=3.10",
        "orjson>=3.10",
        # Fetches a named encoder's wheel.
        "pip>=26.0",
        "prometheus-client>=0.22",
        "psutil>=5.9",
        "pydantic>=2.11",
        "requests>=2.32",
        "pyyaml>=6.0",
        "rich>=13.9",
        "safetensors>=0.5",
        "scikit-learn>=1.4",
        "scipy>=1.12",
        "setuptools>=78.1.1,<81",
        "sqlalchemy>=2.0",
        "starlette>=1.3.1",
        # serving/http/connection.py leans on its inside; tests/serving/http/test_connection.py names on what.
        "uvicorn>=0.35,<0.55",
        "uvloop>=0.21",
    ],
    extras_require={
        # What serving/client/grpc.py needs; tfx brings it too, for as long as tfx itself needs it.
        "grpc": [f"tensorflow-serving-api>=2.16,<2.17; {OLDER}", f"tensorflow-serving-api>=2.19,<2.22; {NEWER}"]
    },
)
