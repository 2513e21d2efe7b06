"""What the tray says, in the language of its desktop: English, or Japanese. What the machine itself tells is English."""

from __future__ import annotations

from collections.abc import Callable, Sequence

Say = Callable[..., str]
"""Gives an English text in another language; values are for the names in its braces."""

_JAPANESE = {
    "Machine {name}: {state}": "マシン {name}: {state}",
    "Cove: machine {name}: {state}": "Cove: マシン {name}: {state}",
    "not made yet": "未作成",
    "running": "実行中",
    "stopped": "停止",
    "suspended": "サスペンド中",
    "starting": "起動中",
    "stopping": "停止処理中",
    "suspending": "サスペンド処理中",
    "resuming": "復帰中",
    "restarting": "再起動中",
    "removing": "削除中",
    "paused": "一時停止中",
    "created": "作成済み",
    "exited": "終了",
    "dead": "使用不能",
    "unknown": "不明",
    "Start": "起動",
    "Stop": "停止",
    "Suspend": "サスペンド",
    "Resume": "復帰",
    "Open dashboard": "ダッシュボードを開く",
    "Quit (the machine stays as it is)": "終了 (マシンはそのまま)",
    "Containers: …": "コンテナ: …",
    "No containers": "コンテナはありません",
    "{count} more…": "ほか {count} 個…",
    "Machine {name} did not start": "マシン {name} を起動できませんでした",
    "Machine {name} was not stopped": "マシン {name} を停止できませんでした",
    "Machine {name} was not suspended": "マシン {name} をサスペンドできませんでした",
    "Machine {name} has no dashboard now": "マシン {name} のダッシュボードを開けませんでした",
}


def english(text: str, **values: object) -> str:
    return text.format(**values) if values else text


def japanese(text: str, **values: object) -> str:
    return english(_JAPANESE.get(text, text), **values)


def of(languages: Sequence[str]) -> Say:
    """That of the first of these that there is; they are tags such as "ja-JP", in the order of the user's liking."""
    spoken = (language.replace("_", "-").partition("-")[0].lower() for language in languages)
    return japanese if next((each for each in spoken if each in ("en", "ja")), "") == "ja" else english
