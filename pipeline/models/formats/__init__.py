"""Formats: how a model is stored. One component a file, configured by `conf/format/`.

A format imports no other format. To add one, write `formats/<name>.py` and
`conf/format/<name>.yaml`. A format whose files are programs derives from
`programs.base.ProgramFile`.
"""
