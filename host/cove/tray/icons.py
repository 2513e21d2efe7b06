"""Icons, drawn: a sign in white on a plate that has a colour of its own for each state. Shape and colour both tell, and the plate's rim
sets it off from light and dark bars. Qt is imported when one is drawn.
"""

from __future__ import annotations

from typing import Any

from cove.tray import menu

SIZES = (16, 22, 24, 32, 44, 48, 64)
GRID = 16.0
"""Shapes are in sixteenths: at 16 pixels they are on whole ones."""
COLOURS = {
    menu.RUNNING: "#1a7f37", menu.STOPPED: "#6e7781", menu.SUSPENDED: "#0969da", menu.BUSY: "#b35900", menu.TROUBLE: "#cf222e",
}  # fmt: skip


def icon(state: str) -> Any:
    """A QIcon of every size."""
    from PySide6.QtGui import QIcon

    made = QIcon()
    for size in SIZES:
        made.addPixmap(drawn(state, size))
    return made


def drawn(state: str, size: int) -> Any:
    """A QPixmap."""
    from PySide6.QtCore import QPointF, QRectF, Qt
    from PySide6.QtGui import QColor, QPainter, QPen, QPixmap, QPolygonF

    pixmap = QPixmap(size, size)
    pixmap.fill(Qt.GlobalColor.transparent)
    painter = QPainter(pixmap)
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    painter.scale(size / GRID, size / GRID)
    painter.setPen(QPen(QColor(255, 255, 255, 190), 1))
    painter.setBrush(QColor(COLOURS[state]))
    painter.drawRoundedRect(QRectF(0.5, 0.5, 15, 15), 3.5, 3.5)
    painter.setPen(Qt.PenStyle.NoPen)
    painter.setBrush(QColor("white"))
    if state == menu.RUNNING:
        painter.drawPolygon(QPolygonF([QPointF(5, 3), QPointF(13, 8), QPointF(5, 13)]))
    elif state == menu.STOPPED:
        painter.drawRect(QRectF(5, 5, 6, 6))
    elif state == menu.SUSPENDED:
        painter.drawRect(QRectF(4, 4, 3, 8))
        painter.drawRect(QRectF(9, 4, 3, 8))
    elif state == menu.BUSY:
        for x in (2.5, 6.5, 10.5):
            painter.drawEllipse(QRectF(x, 6.5, 3, 3))
    else:
        painter.drawRect(QRectF(7, 3, 2, 6))
        painter.drawRect(QRectF(7, 11, 2, 2))
    painter.end()
    return pixmap
