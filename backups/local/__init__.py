"""The engine as a command of its own: `python -m backups.local`, without any control plane."""
