"""Tasks: one component a file, configured by `conf/task/`.

Imports `core`, `config`, `storage` and `ops`. A task imports no other task. Begin with `detect.py`.
The attributes of a task are defined in `core/protocols.py` (Task) and `core/task_roles.py`.
"""
