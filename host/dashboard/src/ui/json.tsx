/** JSON that folds. */

type Value = string | number | boolean | null | undefined | Value[] | { [key: string]: Value };

export function Json({ value }: { value: unknown }) {
  return (
    <div class="json mono" tabIndex={0} role="region" aria-label="JSON">
      <Node value={value as Value} open />
    </div>
  );
}

function Node({ name, value, open = false }: { name?: string; value: Value; open?: boolean }) {
  const key = name === undefined ? null : <span class="json-key">{name}: </span>;
  if (value === null || typeof value !== "object")
    return <div class="json-leaf">{key}<span class={`json-${value === null ? "null" : typeof value}`}>{JSON.stringify(value)}</span></div>;
  const list = Array.isArray(value);
  const inner = Object.entries(value) as [string, Value][];
  if (inner.length === 0) return <div class="json-leaf">{key}<span class="muted">{list ? "[]" : "{}"}</span></div>;
  return (
    <details open={open || inner.length <= 12}>
      <summary>{key}<span class="muted">{list ? `[${inner.length}]` : `{${inner.length}}`}</span></summary>
      <div class="json-inner">{inner.map(([each, one]) => (list ? <Node key={each} value={one} /> : <Node key={each} name={each} value={one} />))}</div>
    </details>
  );
}
