"""Hyper-V, spoken to over PowerShell: its module is what every Windows that has Hyper-V has too."""
