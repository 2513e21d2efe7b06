import { language } from "../i18n";

const UNITS = ["B", "KB", "MB", "GB", "TB"];

/** As docker writes sizes: in steps of 1000, three digits that count. */
export function bytes(value: number): string {
  let size = value;
  let unit = 0;
  while (size >= 1000 && unit < UNITS.length - 1) {
    size /= 1000;
    unit += 1;
  }
  const digits = unit === 0 || size >= 100 ? 0 : size >= 10 ? 1 : 2;
  return `${Number(size.toFixed(digits))} ${UNITS[unit]}`;
}

/** What is counted in powers of two: a machine's memory and disk, as its settings write them. */
export function binary(value: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let size = value;
  let unit = 0;
  for (; size >= 1024 && unit < units.length - 1; unit += 1) size /= 1024;
  return `${Number(size.toFixed(1))} ${units[unit]}`;
}

export function rate(value: number): string {
  return `${bytes(value)}/s`;
}

export function percent(value: number): string {
  return `${value >= 10 ? Math.round(value) : Number(value.toFixed(1))}%`;
}

const SPANS: [Intl.RelativeTimeFormatUnit, number][] = [
  ["year", 31_536_000],
  ["month", 2_592_000],
  ["day", 86_400],
  ["hour", 3600],
  ["minute", 60],
];

/** How long ago that was, in words. */
export function ago(seconds: number, now = Date.now() / 1000): string {
  const words = new Intl.RelativeTimeFormat(language.value, { numeric: "always", style: "short" });
  const span = seconds - now;
  for (const [unit, length] of SPANS) {
    if (Math.abs(span) >= length) return words.format(Math.trunc(span / length), unit);
  }
  return words.format(Math.min(Math.trunc(span), -1), "second");
}

export function clock(date: Date): string {
  return new Intl.DateTimeFormat(language.value, { hour: "2-digit", minute: "2-digit", second: "2-digit" }).format(date);
}

export function moment(value: string | number): string {
  const date = new Date(value);
  if (Number.isNaN(date.getTime()) || date.getTime() <= 0) return "–";
  return new Intl.DateTimeFormat(language.value, { dateStyle: "medium", timeStyle: "medium" }).format(date);
}

export function count(value: number): string {
  return new Intl.NumberFormat(language.value).format(value);
}

/** The twelve digits by which docker shows an id. */
export function short(id: string): string {
  return id.replace(/^sha256:/, "").slice(0, 12);
}

/** How long something took, given in milliseconds. */
export function lasted(span: number): string {
  const unit = (value: number, name: "millisecond" | "second" | "minute" | "hour", digits = 0) =>
    new Intl.NumberFormat(language.value, { style: "unit", unit: name, unitDisplay: "narrow", maximumFractionDigits: digits }).format(value);
  if (span < 95) return unit(span, "millisecond");
  if (span < 59_950) return unit(span / 1000, "second", span < 9_950 ? 1 : 0);
  const seconds = Math.round(span / 1000);
  const [hours, minutes] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60];
  return hours ? `${unit(hours, "hour")} ${unit(minutes, "minute")}` : `${unit(minutes, "minute")} ${unit(seconds % 60, "second")}`;
}
