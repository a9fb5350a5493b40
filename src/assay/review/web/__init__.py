"""What is served; needs `pip install "assay[review]"`."""

from importlib.util import find_spec

from ...errors import ExtraError

if missing := [name for name in ("starlette", "uvicorn") if find_spec(name) is None]:
    raise ExtraError(f'the review page needs {" and ".join(missing)}: pip install "assay[review]"')
