"""The icon in the desktop's tray: what a machine does, and a menu (docs/decisions/0065)."""
