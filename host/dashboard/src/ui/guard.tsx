/** Around what may fail as it is drawn, or whose script does not come: the rest of the page stays. */

import type { ComponentChildren } from "preact";
import { Suspense } from "preact/compat";
import { useErrorBoundary } from "preact/hooks";
import { t } from "../i18n";
import { Button, Empty, Loading } from "./basics";

export function Guard({ children }: { children: ComponentChildren }) {
  const [error] = useErrorBoundary();
  if (error)
    return (
      <div role="alert">
        <Empty icon="warning" title={t("problem.broken")} text={t("problem.broken.text")}>
          {/* A script that did not come is not asked for again by the same page. */}
          <Button kind="primary" icon="restart" label={t("problem.reload")} onClick={() => location.reload()} />
        </Empty>
      </div>
    );
  return <Suspense fallback={<Loading />}>{children}</Suspense>;
}
