"""Everything that reads finished runs: evaluation, comparison, drift, report and the verbs.

Imports the rooms below it and reaches no model. Begin with `commands/`.
"""
