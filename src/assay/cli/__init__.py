"""The command line.

Results on stdout (as JSON with --json), progress and messages on stderr. Exit codes: 0 done; 1 refused, with the
reason; 2 wrong usage; 3 `assay trust` says "do not trust"; 130 interrupted (the same command goes on where it stopped).
torch is imported when a command runs, not for --help.
"""

import atexit
import gc

from .acas import app as _acas
from .audits import app as _audits
from .demos import app as _demos
from .depth import app
from .parameters import app as _parameters
from .review import app as _review
from .space import app as _space

# each module adds its commands to the one app
assert app is _acas is _audits is _demos is _parameters is _review is _space
__all__ = ["app"]

atexit.register(gc.freeze)  # at its end Python would look through all of torch for garbage: half a second of a command
