/** A chart over time. Loaded with the pages that draw. */

import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { language } from "../i18n";
import { shade } from "../theme";

export interface Series {
  readonly name: string;
  readonly values: readonly (number | null)[];
}

export default function Chart({ label, times, series, format, top, height = 120 }: {
  label: string;
  times: readonly number[];
  series: readonly Series[];
  format: (value: number) => string;
  /** The least that the axis reaches up to. */
  top: number;
  height?: number;
}) {
  const box = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const data = () => [[...times], ...series.map(({ values }) => [...values])] as uPlot.AlignedData;

  useEffect(() => {
    const element = box.current!;
    const style = getComputedStyle(element);
    const axis = {
      stroke: resolved(element, "--muted"),
      grid: { stroke: resolved(element, "--line"), width: 1 },
      ticks: { show: false },
      font: `11px ${style.fontFamily}`,
    };
    const made = new uPlot(
      {
        width: element.clientWidth || 300,
        height,
        padding: [8, 26, 0, 0],
        legend: { show: false },
        cursor: { y: false, points: { size: 6 } },
        scales: { x: { time: true, range: lastMinute }, y: { range: (_, __, most) => [0, Math.max(top, most * 1.15)] } },
        axes: [
          { ...axis, grid: { show: false }, size: 24, space: 80, values: (_, at) => at.map(hour) },
          { ...axis, size: 64, space: 36, values: (_, at) => at.map((value) => format(value)) },
        ],
        series: [
          {},
          ...series.map((one, index) => ({
            label: one.name,
            stroke: resolved(element, index === 0 ? "--accent" : "--chart-2"),
            width: 1.5,
            fill: index === 0 ? resolved(element, "--chart-fill") : undefined,
            points: { show: false },
          })),
        ] as uPlot.Series[],
      },
      data(),
      element,
    );
    plot.current = made;
    const size = new ResizeObserver(() => made.setSize({ width: element.clientWidth, height }));
    size.observe(element);
    return () => {
      size.disconnect();
      made.destroy();
    };
  }, [shade.value, language.value, series.length]);

  useEffect(() => plot.current?.setData(data()), [times]);

  const last = series.map(({ values }) => values.at(-1) ?? null);
  const told = series.map(({ name }, index) => `${name} ${last[index] === null ? "–" : format(last[index]!)}`).join(", ");
  return (
    <figure class="chart">
      <figcaption>
        <span>{label}</span>
        <span class="chart-now">
          {series.map(({ name }, index) => (
            <span key={name} class={`series-${index}`}>
              {series.length > 1 && <span class="series-name">{name} </span>}
              {last[index] === null ? "–" : format(last[index]!)}
            </span>
          ))}
        </span>
      </figcaption>
      <div ref={box} class="chart-box" role="img" aria-label={`${label}: ${told}`} />
    </figure>
  );
}

/** All that there is, and a minute at least. */
function lastMinute({ data: [known = []] }: uPlot): [number, number] {
  const last = known.at(-1) ?? Date.now() / 1000;
  return [Math.min(known[0] ?? last, last - 60), last];
}

function hour(seconds: number): string {
  return new Intl.DateTimeFormat(language.value, { hour: "2-digit", minute: "2-digit", second: "2-digit" }).format(seconds * 1000);
}

/** A colour of the design as a canvas takes it: `light-dark()` means nothing to one. */
function resolved(element: HTMLElement, name: string): string {
  const probe = document.createElement("span");
  probe.style.color = `var(${name})`;
  element.append(probe);
  const colour = getComputedStyle(probe).color;
  probe.remove();
  return colour;
}
