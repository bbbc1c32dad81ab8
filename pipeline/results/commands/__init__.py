"""Commands that read finished runs, one file for each command.

In each file, `Options` declares the settings and `run_command` does the work. A command needs no
model and imports no other command.
"""
