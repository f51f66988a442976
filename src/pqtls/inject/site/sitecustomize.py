"""Start the pqtls recorder in this Python process, then step aside.

Found through PYTHONPATH by every Python process that pqtls starts, whatever its version: so the syntax is
that of Python 2.7 too, and nothing here may raise into the program. It hides itself from sys.path, runs the
sitecustomize that would have run without it, and loads `recorder.py` only where a record was asked for.
"""

import os
import sys


def _step_aside(folder):
    """Take our folder off sys.path and run the sitecustomize that it hides, if there is one."""
    real = os.path.realpath(folder)
    sys.path[:] = [entry for entry in sys.path if os.path.realpath(entry or os.curdir) != real]
    ours = sys.modules.pop("sitecustomize", None)
    try:
        import sitecustomize  # noqa: F401
    except ImportError as error:
        if getattr(error, "name", "sitecustomize") not in (None, "sitecustomize"):
            raise
    finally:
        # Without another one the import system still expects the module it is importing to be there.
        if ours is not None:
            sys.modules.setdefault("sitecustomize", ours)


def _start_recorder(folder):
    """Load recorder.py by its path: this process may not have pqtls installed."""
    if sys.version_info < (3, 8) or not os.environ.get("PQTLS_RECORD"):
        return
    # What importlib.util would do, from the parts that are loaded at every start: it costs nothing.
    from _frozen_importlib import ModuleSpec
    from _frozen_importlib_external import SourceFileLoader

    name = "_pqtls_recorder"
    loader = SourceFileLoader(name, os.path.join(os.path.dirname(folder), "recorder.py"))
    module = type(sys)(name)
    module.__spec__ = ModuleSpec(name, loader, origin=loader.path)
    module.__file__ = loader.path
    sys.modules[name] = module
    loader.exec_module(module)
    module.start(os.environ["PQTLS_RECORD"])


_FOLDER = os.path.dirname(os.path.abspath(__file__))
try:
    _start_recorder(_FOLDER)
except Exception:  # noqa: BLE001, S110 - a witness that cannot start must not harm the program
    pass
_step_aside(_FOLDER)
