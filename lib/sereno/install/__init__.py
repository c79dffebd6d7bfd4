"""What install.sh does once it has an interpreter: sereno itself on a machine, not its jobs.

A part of its own and not of the command: it runs before there are dependencies, from a checkout, from the release that
was just staged, or for an uninstall from the one that is there; with the standard library alone.
"""
