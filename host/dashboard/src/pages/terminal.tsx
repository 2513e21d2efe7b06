/** A shell in the container, in a terminal that is a terminal. Loaded when it is first opened. */

import { FitAddon } from "@xterm/addon-fit";
import { Terminal as Xterm } from "@xterm/xterm";
import "@xterm/xterm/css/xterm.css";
import { useEffect, useRef, useState } from "preact/hooks";
import { docker } from "../api/docker";
import { socketUrl } from "../api/http";
import { t } from "../i18n";
import { withSheets } from "../lib/styles";
import { shade } from "../theme";
import { Button, Empty } from "../ui/basics";
import { failed } from "../ui/toasts";

/** The best shell that there is. */
const SHELL = "for shell in bash ash sh; do command -v $shell >/dev/null && exec $shell; done";

export default function Terminal({ id, running }: { id: string; running: boolean }) {
  const [round, again] = useState(0);
  const [ended, end] = useState(false);
  const box = useRef<HTMLDivElement>(null);

  useEffect(() => {
    if (!running || !box.current) return;
    end(false);
    const terminal = new Xterm({
      fontFamily: getComputedStyle(document.documentElement).getPropertyValue("--mono"),
      fontSize: 13,
      lineHeight: 1.25,
      scrollback: 5000,
      cursorBlink: false,
      theme: colours(),
    });
    const fit = new FitAddon();
    terminal.loadAddon(fit);
    const release = withSheets(() => terminal.open(box.current!));
    fit.fit();
    terminal.focus();
    let socket: WebSocket | null = null;
    let closed = false;
    const resize = () => {
      if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify({ resize: [terminal.cols, terminal.rows] }));
    };
    const size = new ResizeObserver(() => fit.fit());
    size.observe(box.current);
    terminal.onResize(resize);
    const encoder = new TextEncoder();
    terminal.onData((text) => socket?.readyState === WebSocket.OPEN && socket.send(encoder.encode(text)));
    terminal.onBinary((text) => socket?.readyState === WebSocket.OPEN && socket.send(Uint8Array.from(text, (one) => one.charCodeAt(0))));

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
        socket = new WebSocket(socketUrl(`api/exec/${exec}/ws?cols=${terminal.cols}&rows=${terminal.rows}`));
        socket.binaryType = "arraybuffer";
        socket.onmessage = ({ data }) => {
          if (data instanceof ArrayBuffer) terminal.write(new Uint8Array(data));
        };
        socket.onclose = () => {
          if (!closed) end(true);
        };
      } catch (error) {
        failed(error);
        end(true);
      }
    })();
    return () => {
      closed = true;
      size.disconnect();
      socket?.close();
      terminal.dispose();
      release();
    };
  }, [id, running, round, shade.value]);

  if (!running) return <Empty icon="terminal" title={t("terminal.stopped")} text={t("terminal.stopped.text")} />;
  return (
    <section class="terminal-page" aria-label={t("tab.terminal")}>
      <div class="shell" ref={box} />
      {ended && (
        <div class="terminal-end" role="status">
          <span>{t("terminal.ended")}</span>
          <Button label={t("terminal.again")} icon="restart" onClick={() => again(round + 1)} />
        </div>
      )}
    </section>
  );
}

function colours() {
  const style = getComputedStyle(document.querySelector(".shell")!);
  return { background: style.backgroundColor, foreground: style.color, cursor: style.color, selectionBackground: "#4d8f9566" };
}
