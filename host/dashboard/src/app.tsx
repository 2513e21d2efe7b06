import { signal } from "@preact/signals";
import { lazy } from "preact/compat";
import { useEffect, useRef, useState } from "preact/hooks";
import { language, speak, t, type Key } from "./i18n";
import { go, path, route, type Page } from "./router";
import { containers, onEvent } from "./state/engine";
import { away, machine, served } from "./state/machine";
import { remember, remembered } from "./lib/remember";
import { theme, wear } from "./theme";
import { Button, Check, Copy, Dot, Header, NotRunning } from "./ui/basics";
import { Confirmation, Dialog } from "./ui/dialog";
import { Guard } from "./ui/guard";
import { Icon, type IconName } from "./ui/icon";
import { announce, Toasts } from "./ui/toasts";
import { ContainerPage } from "./pages/container";
import { Containers } from "./pages/containers";
import { eventText } from "./pages/events";
import { machineWord, Overview } from "./pages/overview";
import { Running } from "./pages/run";

const Images = lazy(() => import("./pages/images").then((page) => page.Images));
const ImagePage = lazy(() => import("./pages/images").then((page) => page.ImagePage));
const Builds = lazy(() => import("./pages/builds").then((page) => page.Builds));
const BuildPage = lazy(() => import("./pages/builds").then((page) => page.BuildPage));
const Cache = lazy(() => import("./pages/cache").then((page) => page.Cache));
const Volumes = lazy(() => import("./pages/volumes").then((page) => page.Volumes));
const VolumePage = lazy(() => import("./pages/volumes").then((page) => page.VolumePage));
const Networks = lazy(() => import("./pages/networks").then((page) => page.Networks));
const NetworkPage = lazy(() => import("./pages/networks").then((page) => page.NetworkPage));
const Settings = lazy(() => import("./pages/settings").then((page) => page.Settings));
const Diagnose = lazy(() => import("./pages/diagnose").then((page) => page.Diagnose));
const Tour = lazy(() => import("./pages/tour").then((page) => page.Tour));

/** On a phone these are at hand, and the others behind "More". */
const MAIN: readonly Page[] = ["overview", "containers", "images", "volumes", "networks"];
const REST: readonly Page[] = ["builds", "cache", "settings", "diagnose", "tour"];
const LETTERS: Record<string, Page> = { o: "overview", c: "containers", b: "builds", k: "cache", i: "images", v: "volumes", n: "networks", s: "settings", d: "diagnose", t: "tour" };
/** What a screen reader says as it happens; all of it is on the overview. */
const SPOKEN = new Set(["start", "die", "destroy", "pause", "unpause", "oom"].map((action) => `container ${action}`));
const SECOND_KEY_MS = 1500;
/** Who speaks to the computer may not want letters to do things. */
const letters = signal(remembered("letters") !== "no");

export function App() {
  const [helping, help] = useState(false);
  const [more, open] = useState(false);
  const main = useRef<HTMLElement>(null);
  const { page, id, tab } = route.value;
  useKeys(() => help(true));
  useTour();
  useEffect(() => onEvent((event) => SPOKEN.has(`${event.Type} ${event.Action}`) && announce(eventText(event))), []);
  useEffect(() => void (document.documentElement.lang = language.value), [language.value]);
  useEffect(() => {
    document.title = `${id ? `${id} – ` : ""}${t(`nav.${page}` as Key)} – Cove`;
  }, [page, id, language.value]);
  useEffect(() => {
    main.current?.scrollTo(0, 0);
    open(false);
  }, [page, id]);
  return (
    <div class="frame">
      <a class="skip" href="#main" onClick={(event) => { event.preventDefault(); main.current?.focus(); }}>{t("skip")}</a>
      <nav class="nav" aria-label={t("nav")}>
        <a class="brand" href={path("overview")} aria-label={`Cove: ${t("nav.overview")}`}>
          <svg viewBox="0 0 32 32" aria-hidden="true"><rect width="32" height="32" rx="8" /><path d="M23.5 11.2A9 9 0 1 0 23.5 20.8" /><circle cx="16.6" cy="16" r="2.6" /></svg>
          <span>Cove</span>
        </a>
        <ul>{MAIN.map((each) => <Item key={each} page={each} current={page} />)}</ul>
        <ul class="nav-rest">{REST.map((each) => <Item key={each} page={each} current={page} />)}</ul>
        <button type="button" class="nav-more" aria-expanded={more} onClick={() => open(true)}><Icon name="more" /><span>{t("nav.more")}</span></button>
        <div class="nav-foot">
          {machine.value && <a class="nav-machine" href={path("overview")}><Dot state={machine.value.state} /><span>{machine.value.machine}</span><span class="muted">{machineWord(machine.value.state)}</span></a>}
          <Looks help={() => help(true)} />
        </div>
      </nav>
      <main id="main" class="main" ref={main} tabIndex={-1}>
        <div class="content">
          {!served.value && (
            <p class="notice bad" role="alert">
              <span>{t("problem.away")}. {t("problem.away.text")}</span>
              <Copy text="cove dashboard" />
            </p>
          )}
          <Guard key={`${page} ${id}`}>{shown(page, id, tab)}</Guard>
        </div>
      </main>
      {more && (
        <Dialog title={t("nav.more")} close={() => open(false)}>
          <div class="dialog-content"><ul class="more-list">{REST.map((each) => <Item key={each} page={each} current={page} />)}</ul><Looks help={() => { open(false); help(true); }} /></div>
        </Dialog>
      )}
      {helping && <Help close={() => help(false)} />}
      <Confirmation />
      <Running />
      <Toasts />
    </div>
  );
}

/** What these show, only an engine can tell. */
const OF_ENGINE = new Set<Page>(["containers", "images", "builds", "cache", "volumes", "networks"]);

function shown(page: Page, id: string, tab: string) {
  // A page that has fetched its lists before must not show them as if they were so now.
  if (away.value && OF_ENGINE.has(page)) return <><Header title={t(`nav.${page}`)} /><NotRunning /></>;
  switch (page) {
    case "containers": return id ? <ContainerPage key={id} id={id} tab={tab} /> : <Containers />;
    case "images": return id ? <ImagePage key={id} id={id} /> : <Images />;
    case "volumes": return id ? <VolumePage key={id} name={id} /> : <Volumes />;
    case "networks": return id ? <NetworkPage key={id} id={id} /> : <Networks />;
    case "builds": return id ? <BuildPage key={id} id={id} /> : <Builds />;
    case "cache": return <Cache />;
    case "settings": return <Settings />;
    case "diagnose": return <Diagnose />;
    case "tour": return <Tour />;
    default: return <Overview />;
  }
}

function Item({ page, current }: { page: Page; current: Page }) {
  return <li><a href={path(page)} aria-current={page === current ? "page" : undefined}><Icon name={page as IconName} /><span>{t(`nav.${page}` as Key)}</span></a></li>;
}

function Looks({ help }: { help: () => void }) {
  const next = { system: "light", light: "dark", dark: "system" } as const;
  return (
    <div class="looks">
      <Button bare kind="quiet" icon="theme" label={t("look.theme", { theme: t(`look.${theme.value}`) })} onClick={() => wear(next[theme.value])} />
      <Button kind="quiet" class="language" label={language.value === "en" ? "日本語" : "English"} onClick={() => speak(language.value === "en" ? "ja" : "en")} />
      <Button bare kind="quiet" icon="help" label={t("help")} onClick={help} />
    </div>
  );
}

/** Once, where no container is there yet, the page opens with the first steps. */
function useTour(): void {
  const known = containers.data.value !== null;
  useEffect(() => {
    if (!known || remembered("toured")) return;
    remember("toured", "yes");
    if (containers.data.value!.length === 0 && route.value.page === "overview") location.replace(path("tour"));
  }, [known]);
}

/** `/` searches, `?` helps, `g` and a letter go to a page. */
function useKeys(help: () => void): void {
  useEffect(() => {
    let waiting = 0;
    const pressed = (event: KeyboardEvent) => {
      const target = event.target as HTMLElement;
      if (!letters.value || event.ctrlKey || event.metaKey || event.altKey || target.closest("input, textarea, select, .shell, dialog")) return;
      if (event.key === "/") {
        const search = document.querySelector<HTMLInputElement>("[data-search]");
        if (search) {
          event.preventDefault();
          search.focus();
          search.select();
        }
      } else if (event.key === "?") help();
      else if (event.key === "g") waiting = event.timeStamp;
      else if (waiting && event.timeStamp - waiting < SECOND_KEY_MS && LETTERS[event.key]) {
        event.preventDefault();
        waiting = 0;
        go(LETTERS[event.key]!);
      } else waiting = 0;
    };
    addEventListener("keydown", pressed);
    return () => removeEventListener("keydown", pressed);
  }, []);
}

function Help({ close }: { close: () => void }) {
  const keys: [string[], string][] = [
    [["/"], t("help.search")],
    [["↑", "↓"], t("help.rows")],
    [["Enter"], t("help.enter")],
    [["Esc"], t("help.escape")],
    ...Object.entries(LETTERS).map(([letter, page]) => [["g", letter], t(`nav.${page}` as Key)] as [string[], string]),
    [["?"], t("help")],
  ];
  return (
    <Dialog title={t("help")} close={close}>
      <div class="dialog-content">
        <dl class="keys">{keys.map(([each, text]) => <div key={text}><dt>{each.map((key) => <kbd key={key}>{key}</kbd>)}</dt><dd>{text}</dd></div>)}</dl>
        <Check label={t("help.letters")} checked={letters.value} onChange={(on) => { letters.value = on; remember("letters", on ? "yes" : "no"); }} />
      </div>
    </Dialog>
  );
}
