"""All settings that a user can give on the command line, each declared once.

A group's docstring is its heading in `run --help` and in docs/settings.md. After a change run
`python -m pipeline.config.settings_page > docs/settings.md`.
"""
