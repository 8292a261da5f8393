"""Spare the imports of TensorFlow and scikit-learn the packages that they try only to offer what nothing here uses: a third of the time."""

from __future__ import annotations

import sys
import threading
from importlib.machinery import ModuleSpec

#: Package → what it, or Keras, imports inside `try` and does not require: for data frames, wrappers, plots and notebooks.
_OPTIONAL = {
    "tensorflow": frozenset(("IPython", "cv2", "matplotlib", "pandas", "sklearn")),
    "sklearn": frozenset(("matplotlib", "pandas")),
}


class _WithoutOptional:
    """A finder that says of optional packages that they are not there, to the thread that imports one of these and for as long as it does.

    A package that was imported before stays what it is, and afterwards each can be imported as ever.
    """

    def __init__(self) -> None:
        self._importing: dict[int, str] = {}

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Nothing, so that the next finder is asked; or `ModuleNotFoundError`."""
        thread = threading.get_ident()
        if fullname in _OPTIONAL.get(self._importing.get(thread, ""), ()):
            package = self._importing[thread]
            if _is_being_imported(package):
                raise ModuleNotFoundError(f"No module named {fullname!r} while {package} is imported", name=fullname)
            del self._importing[thread]
        elif fullname in _OPTIONAL:
            self._importing[thread] = fullname
        return None


def _is_being_imported(name: str) -> bool:
    return bool(getattr(getattr(sys.modules.get(name), "__spec__", None), "_initializing", False))


def import_lean() -> None:
    """From here on these are imported without the optional packages. For a process of our own, such as the command's.

    In a process of somebody else's, what they offer with these packages has to work: they are imported as they are there.
    """
    if not any(isinstance(finder, _WithoutOptional) for finder in sys.meta_path):
        sys.meta_path.insert(0, _WithoutOptional())
