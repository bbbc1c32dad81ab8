"""Read the imports of the package's modules from their source, without running anything."""

import ast
from pathlib import Path

from pipeline.core.package_files import find_resource

PACKAGE = find_resource("conf").parent / "pipeline"

# folder of a kind of component below conf/ -> folder of its code below pipeline/, and of its tests
# below tests/
COMPONENT_FOLDERS = {
    "engine": "inference/engines",
    "examples": "training/datasets",
    "executor": "runs/executors",
    "exporter": "outputs/exporters",
    "format": "models/formats",
    "head": "models/heads",
    "sink": "outputs/sinks",
    "source": "inputs/sources",
    "task": "tasks",
}


def module_of(path: Path) -> str:
    """Return the dotted name of a module's file: pipeline/core/keys.py -> pipeline.core.keys."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {
    module_of(path): path.read_text(encoding="utf-8") for path in sorted(PACKAGE.rglob("*.py"))
}


def imports_of(source: str, module: str = "pipeline.x") -> set[str]:
    """Return every module that a source imports, also inside functions and for type checkers only.

    `from pipeline import run` counts as pipeline.run. Relative imports are resolved against
    `module`.
    """
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = module.split(".")[: -node.level]
                base = ".".join([*package, *([base] if base else [])])
            known = {f"{base}.{alias.name}" for alias in node.names} & set(MODULES)
            found |= known or {base}
    return found


def own_imports(source: str, module: str = "pipeline.x") -> set[str]:
    """Return the imported modules that belong to this project."""
    return {
        name
        for name in imports_of(source, module)
        if name == "pipeline" or name.startswith("pipeline.")
    }


def without_types(source: str) -> str:
    """Return the source without the statements below `if TYPE_CHECKING:`."""
    tree = ast.parse(source)
    tree.body = [
        node
        for node in tree.body
        if not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    ]
    return ast.unparse(tree)


IMPORTS = {module: own_imports(source, module) for module, source in MODULES.items()}
RUNTIME_IMPORTS = {
    module: own_imports(without_types(source), module) for module, source in MODULES.items()
}


def importers_of(module: str) -> set[str]:
    """Return the modules that import this one."""
    return {name for name, imported in IMPORTS.items() if module in imported}


def reachable_from(module: str) -> set[str]:
    """Return every module that is imported directly or indirectly.

    Imports for type checkers only do not count.
    """
    reached: set[str] = set()
    waiting = [module]
    while waiting:
        new = RUNTIME_IMPORTS.get(waiting.pop(), set()) - reached
        reached |= new
        waiting += new
    return reached


def room_of(module: str) -> str:
    """Return the room of a module: pipeline.core.keys -> core, pipeline.run -> run."""
    return module.split(".")[1] if "." in module else ""
