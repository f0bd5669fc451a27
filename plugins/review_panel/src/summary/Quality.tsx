import * as React from "react";
import type { Order, Quality } from "../server";
import type { Session } from "../session";
import { percent, range } from "./words";

/** How good the labels are now, how many more decisions bring a wanted precision, and the queues for these. */
export function QualityLine({ quality, session }: { quality: Quality; session: Session }) {
  if (!quality.labels) return null;
  return (
    <>
      <p>
        <Known quality={quality} />
      </p>
      <div className="glr-tools">
        <Begin session={session} order="teaches" title="Review what teaches most" />
        <Begin session={session} order="random" title="Review a random sample" />
        <Begin session={session} order="second_look" title="Look at likely mistakes" />
      </div>
    </>
  );
}

function Known({ quality: { labels, sample, missing, precision, more } }: { quality: Quality }) {
  if (!precision) {
    return (
      <>
        Not enough of the random sample is reviewed to estimate the precision of all labels: <b>{missing}</b> more{" "}
        {missing === 1 ? "decision is" : "decisions are"} needed.
      </>
    );
  }
  return (
    <>
      <b>{range(precision)}</b> of the <b>{labels}</b> labels are right, estimated from {sample} decisions on a random
      sample. <More more={more} />
    </>
  );
}

function More({ more }: { more: Quality["more"] }) {
  const [wanted, setWanted] = React.useState(0.9);
  const decisions = more.find(([each]) => each === wanted)?.[1];
  if (decisions === undefined) return null;
  return (
    <>
      A precision of{" "}
      <select
        aria-label="Wanted precision"
        value={wanted}
        onChange={(event) => setWanted(Number(event.target.value))}
      >
        {more.map(([each]) => (
          <option key={each} value={each}>
            {percent(each)}
          </option>
        ))}
      </select>{" "}
      {decisions ? (
        <>
          takes about <b>{decisions}</b> more {decisions === 1 ? "decision" : "decisions"} if the least certain labels
          come first.
        </>
      ) : (
        "is already reached."
      )}
    </>
  );
}

type BeginProperties = { session: Session; order: Order; title: string };

/** Leads to a queue of single masks. */
function Begin({ session, order, title }: BeginProperties) {
  return (
    <button
      type="button"
      onClick={() => {
        session.ask({ order });
        session.setMode("mask");
      }}
    >
      {title}
    </button>
  );
}
