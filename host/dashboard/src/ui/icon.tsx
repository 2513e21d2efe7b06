/** Icons of 16 by 16, drawn in lines. They say nothing by themselves: what holds one has a text. */

const PATHS = {
  overview: "M2.5 8.5 8 3l5.5 5.5M4 7.5V13h8V7.5",
  containers: "M8 1.8 13.5 5v6L8 14.2 2.5 11V5zM2.5 5 8 8.2 13.5 5M8 8.2v6",
  images: "M8 2 14 5 8 8 2 5zM2 8l6 3 6-3M2 11l6 3 6-3",
  builds: "M2 3.5h5.5M4.5 8h7M9.5 12.5H14",
  cache: "M9 2.5 13.5 7 12 8.5 7.5 4zM9.5 6 3 12.5 4.2 13.7 10.8 7.2",
  volumes: "M2.5 4c0-1.1 2.5-2 5.5-2s5.5.9 5.5 2-2.5 2-5.5 2-5.5-.9-5.5-2v8c0 1.1 2.5 2 5.5 2s5.5-.9 5.5-2V4M2.5 8c0 1.1 2.5 2 5.5 2s5.5-.9 5.5-2",
  networks: "M8 5.5V8M4 10.5V8h8v2.5M6.5 2h3v3.5h-3zM2.5 10.5h3V14h-3zM10.5 10.5h3V14h-3z",
  settings: "M2 4.5h7M12 4.5h2M2 11.5h2M7 11.5h7M9 3v3M12 3v3H9M4 10v3h3v-3z",
  diagnose: "M1.5 8.5h3l1.5-5 3 9.5 2-6 .8 1.5h2.7",
  tour: "M8 14A6 6 0 1 0 8 2a6 6 0 0 0 0 12zM10.7 5.3 9 9l-3.7 1.7L7 7z",
  play: "M5 3.2v9.6L12.5 8z",
  stop: "M4 4h8v8H4z",
  pause: "M5.5 3.5v9M10.5 3.5v9",
  restart: "M12.8 6A5.2 5.2 0 1 0 13.2 8.5M13 2.8V6H9.8",
  suspend: "M12.8 9.6A5.4 5.4 0 1 1 6.4 3.2a4.4 4.4 0 0 0 6.4 6.4z",
  remove: "M2.8 4.2h10.4M6.2 4V2.5h3.6V4M4 4.2l.6 9.3h6.8l.6-9.3M6.6 6.8v4.2M9.4 6.8v4.2",
  logs: "M3 4h10M3 7h7M3 10h10M3 13h5",
  terminal: "M2 3h12v10H2zM4.5 6l2 2-2 2M8.5 10.2h3",
  files: "M2 12.8V3.2h4l1.4 1.6H14v8z",
  file: "M4 2h5.2L12 4.8V14H4zM9 2v3h3",
  link: "M6.5 3.5H3v9.5h9.5V9.5M9 2.5h4.5V7M13.2 2.8 7.5 8.5",
  search: "M7 11.8A4.8 4.8 0 1 0 7 2.2a4.8 4.8 0 0 0 0 9.6zM10.5 10.5 14 14",
  close: "M3.8 3.8l8.4 8.4M12.2 3.8l-8.4 8.4",
  more: "M3.2 8h.1M8 8h.1M12.7 8h.1",
  up: "M8 13V3.5M4 7.2 8 3.2l4 4",
  down: "M8 3v9.5M4 8.8l4 4 4-4",
  download: "M8 2.5v7.8M4.8 7.3 8 10.5l3.2-3.2M2.8 13.2h10.4",
  upload: "M8 10.5V2.7M4.8 5.7 8 2.5l3.2 3.2M2.8 13.2h10.4",
  copy: "M5.5 5.5h8v8h-8zM10.5 5.5v-3h-8v8h3",
  add: "M8 3v10M3 8h10",
  chevron: "M6 3.8 10.2 8 6 12.2",
  tag: "M2.5 2.5h5l6 6-5 5-6-6zM5.2 5.2h.1",
  theme: "M8 2.2a5.8 5.8 0 1 0 0 11.6zM8 2.2a5.8 5.8 0 0 1 0 11.6",
  help: "M8 14A6 6 0 1 0 8 2a6 6 0 0 0 0 12zM6.2 6.3C6.3 5.2 7 4.6 8 4.6s1.8.6 1.8 1.6c0 1.3-1.8 1.4-1.8 2.7M8 11.2v.1",
  good: "M8 14A6 6 0 1 0 8 2a6 6 0 0 0 0 12zM5.4 8.2l1.8 1.8 3.4-3.8",
  warning: "M8 2.5 14.2 13.2H1.8zM8 6.5v3M8 11.3v.1",
  bad: "M8 14A6 6 0 1 0 8 2a6 6 0 0 0 0 12zM5.9 5.9l4.2 4.2M10.1 5.9 5.9 10.1",
} as const;

export type IconName = keyof typeof PATHS;

export function Icon({ name }: { name: IconName }) {
  return (
    <svg class="icon" viewBox="0 0 16 16" aria-hidden="true" focusable="false">
      <path d={PATHS[name]} />
    </svg>
  );
}
