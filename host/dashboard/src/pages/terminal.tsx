/** A shell in the container, in a terminal that is a terminal. Loaded when it is first opened. */

import { FitAddon } from "@xterm/addon-fit";
import { Terminal as Xterm } from "@xterm/xterm";
import "@xterm/xterm/css/xterm.css";
import { useEffect, useId, useRef, useState } from "preact/hooks";
import { docker } from "../api/docker";
import { MOST_WAITING, socketUrl } from "../api/http";
import { t } from "../i18n";
import { useRemembered } from "../lib/hooks";
import { withSheets } from "../lib/styles";
import { shade } from "../theme";
import { Button, Check, Empty } from "../ui/basics";
import { words, type Words } from "../ui/toasts";

/** The best shell that there is. */
const SHELL = "for shell in bash ash sh; do command -v $shell >/dev/null && exec $shell; done";
/** What `exec` ends with when there is no such program, or it cannot be run. */
const NO_PROGRAM = new Set([126, 127]);
/** More than this is not drawn at all: what floods a terminal nobody reads. xterm.js would give up at 50 MB. */
const MOST_UNDRAWN = 32 << 20;

export default function Terminal({ id, running }: { id: string; running: boolean }) {
  const [round, again] = useState(0);
  const [ended, end] = useState<Words | null>(null);
  const [reader, setReader] = useRemembered("reader");
  const box = useRef<HTMLDivElement>(null);
  const drawn = useRef<Xterm | null>(null);
  const note = useId();

  useEffect(() => {
    if (!running || !box.current) return;
    end(null);
    const terminal = new Xterm({
      fontFamily: getComputedStyle(document.documentElement).getPropertyValue("--mono"),
      fontSize: 13,
      lineHeight: 1.25,
      scrollback: 5000,
      cursorBlink: false,
      theme: colours(),
      screenReaderMode: reader,
    });
    drawn.current = terminal;
    const fit = new FitAddon();
    terminal.loadAddon(fit);
    const release = withSheets(() => terminal.open(box.current!));
    terminal.textarea?.setAttribute("aria-describedby", note);
    fit.fit();
    terminal.focus();
    let socket: WebSocket | null = null;
    let closed = false;
    const say = (told: object) => socket?.readyState === WebSocket.OPEN && socket.send(JSON.stringify(told));
    const resize = () => say({ resize: [terminal.cols, terminal.rows] });
    const size = new ResizeObserver(() => fit.fit());
    size.observe(box.current);
    terminal.onResize(resize);
    terminal.attachCustomKeyEventHandler((event) => {
      if (event.key !== "F6" || !event.shiftKey) return true;
      // Tab is the shell's: this is the way out for who has no mouse.
      if (event.type === "keydown") document.querySelector<HTMLElement>(".tabs [aria-current]")?.focus();
      return false;
    });
    const encoder = new TextEncoder();
    terminal.onData((text) => socket?.readyState === WebSocket.OPEN && socket.send(encoder.encode(text)));
    terminal.onBinary((text) => socket?.readyState === WebSocket.OPEN && socket.send(Uint8Array.from(text, (one) => one.charCodeAt(0))));

    let undrawn = 0;
    let held = false;
    const hold = (on: boolean) => {
      if (on !== held) say({ hold: on });
      held = on;
    };
    const draw = (data: Uint8Array) => {
      if (undrawn > MOST_UNDRAWN) return;
      undrawn += data.length;
      if (undrawn > MOST_WAITING) hold(true);
      terminal.write(data, () => {
        undrawn -= data.length;
        if (undrawn < MOST_WAITING / 4) hold(false);
      });
    };

    void (async () => {
      try {
        const exec = await docker.createExec(id, {
          Cmd: ["/bin/sh", "-c", SHELL],
          Env: ["TERM=xterm-256color"],
          AttachStdin: true,
          AttachStdout: true,
          AttachStderr: true,
          Tty: true,
        });
        if (closed) return;
        let wrong: Words | null = null;
        socket = new WebSocket(socketUrl(`api/exec/${exec}/ws?cols=${terminal.cols}&rows=${terminal.rows}`));
        socket.binaryType = "arraybuffer";
        // The window may have changed since its size was asked with.
        socket.onopen = resize;
        socket.onmessage = ({ data }: MessageEvent<ArrayBuffer | string>) => {
          if (typeof data !== "string") return draw(new Uint8Array(data));
          const { error, hint = "" } = JSON.parse(data) as { error?: string; hint?: string };
          if (error) wrong = { text: error, hint, lang: "en" };
        };
        socket.onclose = async () => {
          if (closed) return;
          const code = await docker.exitCode(exec).catch(() => null);
          if (closed) return;
          if (code !== null && NO_PROGRAM.has(code) && undrawn === 0) wrong = { text: t("terminal.noShell"), hint: "", lang: undefined };
          end(wrong ?? { text: t("terminal.ended"), hint: "", lang: undefined });
        };
      } catch (error) {
        if (!closed) end(words(error));
      }
    })();
    return () => {
      closed = true;
      drawn.current = null;
      size.disconnect();
      socket?.close();
      terminal.dispose();
      release();
    };
  }, [id, running, round]);

  // Other colours are no reason for another shell.
  useEffect(() => {
    if (drawn.current) drawn.current.options.theme = colours();
  }, [shade.value]);
  useEffect(() => {
    if (drawn.current) drawn.current.options.screenReaderMode = reader;
  }, [reader]);

  if (!running) return <Empty icon="terminal" title={t("terminal.stopped")} text={t("terminal.stopped.text")} />;
  return (
    <section class="terminal-page" aria-label={t("tab.terminal")}>
      <div class="shell" ref={box} />
      {ended && (
        <div class="terminal-end" role="status">
          <span lang={ended.lang}>{ended.text} {ended.hint}</span>
          <Button label={t("terminal.again")} icon="restart" onClick={() => again(round + 1)} />
        </div>
      )}
      <div class="toolbar">
        <span class="muted" id={note}>{t("terminal.leave")} <kbd>Shift</kbd> <kbd>F6</kbd></span>
        <Check label={t("terminal.reader")} checked={reader} onChange={setReader} />
      </div>
    </section>
  );
}

function colours() {
  const style = getComputedStyle(document.querySelector(".shell")!);
  return { background: style.backgroundColor, foreground: style.color, cursor: style.color, selectionBackground: "#4d8f9566" };
}
