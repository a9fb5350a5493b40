"""What is served; needs `pip install "assay[review]"`."""

from importlib import import_module

from ...errors import ExtraError

for name in ("starlette", "uvicorn"):
    try:
        import_module(name)
    except ModuleNotFoundError as cause:
        raise ExtraError(f'the review page needs {name}: pip install "assay[review]"') from cause
