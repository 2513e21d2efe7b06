import { useState } from "preact/hooks";
import { cove, type Finding } from "../api/cove";
import { Failure } from "../api/http";
import { t } from "../i18n";
import { useWhile } from "../lib/hooks";
import { Button, Copy, Empty, Header, Problem } from "../ui/basics";
import { Icon, type IconName } from "../ui/icon";

const ICONS: Record<string, IconName> = { ok: "good", good: "good", info: "help", warning: "warning", problem: "bad", bad: "bad", error: "bad" };

export function Diagnose() {
  const [round, again] = useState(0);
  const [found, set] = useState<readonly Finding[]>([]);
  const [busy, work] = useState(true);
  const [error, fail] = useState<Failure | null>(null);
  useWhile(async (signal) => {
    set([]);
    fail(null);
    work(true);
    try {
      for await (const { data } of await cove.diagnose(signal)) {
        if (data.error) throw new Failure(data.error, 500);
        if (!data.done) set((all) => [...all, data]);
      }
    } catch (reason) {
      if (signal.aborted) return;
      fail(reason instanceof Failure ? reason : new Failure(String(reason), 0));
    }
    work(false);
  }, [round]);
  const wrong = found.filter(({ state }) => ICONS[state] !== "good").length;
  return (
    <>
      <Header title={t("nav.diagnose")} note={<span role="status">{busy ? t("diagnose.busy") : wrong ? t("diagnose.wrong", { count: wrong }) : t("diagnose.good")}</span>}>
        <Button icon="restart" label={t("diagnose.again")} busy={busy} onClick={() => again(round + 1)} />
      </Header>
      {error ? <Problem error={error} again={async () => again(round + 1)} /> : !busy && found.length === 0 ? <Empty icon="good" title={t("diagnose.good")} /> : (
        <ul class="findings">
          {[...found].sort((one, other) => rank(other) - rank(one)).map((finding, index) => <One key={index} finding={finding} />)}
        </ul>
      )}
      <p class="muted foot">{t("diagnose.bundle")} <code>cove diagnose --bundle</code></p>
    </>
  );
}

function rank({ state }: Finding): number {
  return { bad: 2, warning: 1 }[ICONS[state] as string] ?? 0;
}

function One({ finding: { state, name, text, fix } }: { finding: Finding }) {
  const icon = ICONS[state] ?? "help";
  return (
    <li class={`finding ${icon}`}>
      <Icon name={icon} />
      <div>
        <h2>{name}<span class="hidden"> ({state})</span></h2>
        <p>{text}</p>
        {fix && <p class="fix"><span>{fix}</span><Copy text={fix} /></p>}
      </div>
    </li>
  );
}
