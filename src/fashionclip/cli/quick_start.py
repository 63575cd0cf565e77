"""What a short-lived process may leave out of LanceDB and OpenVINO, to answer sooner.

Half of a search from the shell went into imports that it never uses: LanceDB builds some
six hundred classes of a client for remote catalogues (1.0 s), OpenVINO loads its
converters (0.2 s). Both are left out here, in the process of the command line only;
the library imports them whole.
"""

import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

REMOTE_CLIENT = "lance_namespace_urllib3_client"


class _Hollow(ModuleType):
    """A module that has every class it is asked for, each empty."""

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        empty = type(name, (), {"__module__": self.__name__})
        setattr(self, name, empty)
        return empty


class _HollowFinder(MetaPathFinder, Loader):
    """Finds a hollow module for every name inside the remote client."""

    def find_spec(
        self, fullname: str, path: object = None, target: object = None
    ) -> ModuleSpec | None:
        if fullname.partition(".")[0] != REMOTE_CLIENT:
            return None
        return ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _Hollow(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Leave the module hollow."""


def skip_unused_imports() -> None:
    """Import LanceDB without its remote client, and let OpenVINO do without its converters.

    Should a later LanceDB need more of the client than its names, it is imported whole.
    """
    if "openvino" not in sys.modules:
        sys.modules.setdefault("openvino.tools.ovc", None)  # type: ignore[arg-type]
    if "lancedb" in sys.modules or REMOTE_CLIENT in sys.modules:
        return
    finder = _HollowFinder()
    sys.meta_path.insert(0, finder)
    try:
        import lancedb  # noqa: F401
    except Exception:
        for name in list(sys.modules):
            halfway = name.partition(".")[0] in {"lancedb", "lance_namespace", REMOTE_CLIENT}
            if halfway and name != "lancedb._lancedb":  # compiled; may be loaded only once
                del sys.modules[name]
    finally:
        sys.meta_path.remove(finder)
