# pyarrow is compiled and untyped: what comes from it is Any.
from typing import Any

def __getattr__(name: str) -> Any: ...
