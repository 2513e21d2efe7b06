"""Changes to the laptop's folders that containers have mounted (docs/decisions/0047-changes-of-folders-are-done-again.md)."""
