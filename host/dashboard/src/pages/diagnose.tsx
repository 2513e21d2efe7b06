import { useState } from "preact/hooks";
import { cove, type Finding } from "../api/cove";
import { Failure } from "../api/http";
import { t } from "../i18n";
import { useWhile } from "../lib/hooks";
import { Button, Empty, Header, Problem } from "../ui/basics";
import { Icon, type IconName } from "../ui/icon";

const ICONS: Record<Finding["state"], IconName> = { ok: "good", note: "help", warning: "warning", problem: "bad" };
const RANKS: Record<Finding["state"], number> = { ok: 0, note: 1, warning: 2, problem: 3 };

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
      for await (const finding of cove.diagnose(signal)) set((all) => [...all, finding]);
    } catch (reason) {
      if (signal.aborted) return;
      fail(reason instanceof Failure ? reason : new Failure(String(reason), 0));
    }
    work(false);
  }, [round]);
  const wrong = found.filter(({ state }) => RANKS[state] > 1).length;
  return (
    <>
      <Header title={t("nav.diagnose")} note={<span role="status">{busy ? t("diagnose.busy") : wrong ? t("diagnose.wrong", { count: wrong }) : t("diagnose.good")}</span>}>
        <Button icon="restart" label={t("diagnose.again")} busy={busy} onClick={() => again(round + 1)} />
      </Header>
      {error ? <Problem error={error} again={async () => again(round + 1)} /> : !busy && found.length === 0 ? <Empty icon="good" title={t("diagnose.good")} /> : (
        <ul class="findings">
          {[...found].sort((one, other) => RANKS[other.state] - RANKS[one.state]).map((finding, index) => <One key={index} finding={finding} />)}
        </ul>
      )}
      <p class="muted foot">{t("diagnose.bundle")} <code>cove diagnose --bundle</code></p>
    </>
  );
}

function One({ finding: { check, state, text, fix } }: { finding: Finding }) {
  const icon = ICONS[state];
  return (
    <li class={`finding ${icon}`}>
      <Icon name={icon} />
      <div>
        <h2><span lang="en">{check}</span><span class="hidden">: {t(`diagnose.${state}`)}</span></h2>
        <p lang="en">{text}</p>
        {fix && <p class="fix" lang="en">{fix}</p>}
      </div>
    </li>
  );
}
