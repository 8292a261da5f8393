"""Spare TensorFlow's import the packages that it and Keras try only to offer what nothing here uses: a third of its time."""

from __future__ import annotations

import sys
import threading
from importlib.machinery import ModuleSpec

#: None of them is required by TensorFlow or Keras: they import them inside `try`, for data frames, wrappers, plots and notebooks.
_OPTIONAL = frozenset(("IPython", "cv2", "matplotlib", "pandas", "sklearn"))


class _WithoutOptional:
    """A finder that says of optional packages that they are not there, to the thread that imports TensorFlow and for as long as it does.

    A package that was imported before stays what it is, and afterwards each can be imported as ever.
    """

    def __init__(self) -> None:
        self._thread: int | None = None

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Nothing, so that the next finder is asked; or `ModuleNotFoundError`."""
        if fullname == "tensorflow":
            self._thread = threading.get_ident()
        elif fullname in _OPTIONAL and threading.get_ident() == self._thread:
            if _is_being_imported("tensorflow"):
                raise ModuleNotFoundError(f"No module named {fullname!r} while TensorFlow is imported", name=fullname)
            self._thread = None
        return None


def _is_being_imported(name: str) -> bool:
    return bool(getattr(getattr(sys.modules.get(name), "__spec__", None), "_initializing", False))


def import_lean() -> None:
    """From here on TensorFlow is imported without the optional packages. For a process of our own, such as the command's.

    In a process of somebody else's, what Keras offers with these packages has to work: it is imported as it is there.
    """
    if not any(isinstance(finder, _WithoutOptional) for finder in sys.meta_path):
        sys.meta_path.insert(0, _WithoutOptional())
