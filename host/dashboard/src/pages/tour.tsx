import { t, type Key } from "../i18n";
import { path, type Page } from "../router";
import { Copy, Header } from "../ui/basics";
import { Icon, type IconName } from "../ui/icon";

const STEPS: { icon: IconName; step: string; command?: string; page: Page }[] = [
  { icon: "play", step: "run", command: "docker run -d -p 8080:80 cove/starter", page: "containers" },
  { icon: "logs", step: "look", page: "containers" },
  { icon: "files", step: "folders", command: 'docker run --rm -v "$PWD:/src" busybox ls /src', page: "settings" },
  { icon: "containers", step: "compose", command: "docker compose up -d", page: "containers" },
  { icon: "suspend", step: "rest", page: "overview" },
  { icon: "diagnose", step: "help", command: "cove diagnose", page: "diagnose" },
];

export function Tour() {
  return (
    <>
      <Header title={t("tour.title")} note={t("tour.note")} />
      <ol class="tour">
        {STEPS.map(({ icon, step, command, page }) => (
          <li key={step}>
            <Icon name={icon} />
            <h2>{t(`tour.${step}` as Key)}</h2>
            <p>{t(`tour.${step}.text` as Key)}</p>
            {command && <p class="command"><code>{command}</code><Copy text={command} /></p>}
            <a href={path(page)}>{t(`nav.${page}` as Key)}</a>
          </li>
        ))}
      </ol>
      <p class="muted foot">{t("tour.keys")}</p>
    </>
  );
}
