import * as React from "react";
import { shown, type Keys } from "../keys";
import { ClassList, Label } from "../mask/Side";
import type { RepeatedMasks } from "../server";
import type { Session } from "../session";
import { nameOf } from "./drawing";

const percent = (share: number) => `${Math.round(100 * share)} %`;

type Properties = { session: Session; keys: Keys; onType: () => void };

/** What is chosen or asked, with the classes that it can have, and a list of all masks of the photo. */
export function Side({ session, keys, onType }: Properties) {
  const review = session.photoReview;
  const { mask, chosenPair, asking } = review;
  return (
    <div className="glr-side">
      <Count session={session} />
      {asking.prompt ? (
        <Asked session={session} keys={keys} onType={onType} />
      ) : mask ? (
        <>
          <Label details={mask.details} />
          <ClassList classes={mask.details.classes} onChoose={(name) => review.decide(name)} />
          {chosenPair && <Pair pair={chosenPair.pair} other={nameOf(chosenPair.other)} isWhole={chosenPair.pair.whole === review.chosen} keys={keys} />}
        </>
      ) : (
        <Hints keys={keys} pairs={review.pairs.length} />
      )}
      <List session={session} />
    </div>
  );
}

/** Which photo it is, and what is left to decide on it. */
function Count({ session }: { session: Session }) {
  const { position, list, undecided, picture } = session.photoReview;
  if (!picture) return null;
  const name = picture.filepath.split(/[\\/]/).pop();
  return (
    <div className="glr-state glr-word" title={picture.filepath}>
      Photo {position + 1} of {list.length}, {undecided.length || "none"} undecided: {name}
    </div>
  );
}

function Hints({ keys, pairs }: { keys: Keys; pairs: number }) {
  return (
    <div className="glr-hints">
      <p>Point at a mask, or walk to it with the arrows: keys are about that one.</p>
      {pairs > 0 && (
        <p>
          {pairs} {pairs === 1 ? "pair" : "pairs"} of masks may be of one thing: <kbd>{shown(keys.nextPair)}</kbd>
        </p>
      )}
      <p>Something is missing? Click on it, or drag a box around it.</p>
    </div>
  );
}

/** What the chosen mask has in common with another one. */
function Pair({ pair, other, isWhole, keys }: { pair: RepeatedMasks; other: string; isWhole: boolean; keys: Keys }) {
  const share = percent(pair.share);
  const says = {
    duplicate: `Duplicate of ${other}: they have ${share} in common.`,
    part: isWhole ? `${other} lies in it with ${share}: is it a part?` : `It lies in ${other} with ${share}: is it a part?`,
  };
  return (
    <div className="glr-box" role="status">
      <div>{says[pair.kind]}</div>
      <div>
        <kbd>{shown(keys.keepOfPair)}</kbd> keeps this one and rejects the dashed one, <kbd>{shown(keys.swapPair)}</kbd> goes
        over to that.
      </div>
    </div>
  );
}

/** The thing that is asked for: its class is proposed, and Enter keeps it. */
function Asked({ session, keys, onType }: Properties) {
  const review = session.photoReview;
  const { asking } = review;
  const [label, score] = asking.mask?.classes[0] ?? [null, null];
  return (
    <div className="glr-box" role="status">
      {asking.isLooking && <div className="glr-name">Looking …</div>}
      {asking.isLooking && <div>The first look at a photo takes some seconds.</div>}
      {!asking.isLooking && asking.message && <div>⚠ {asking.message}</div>}
      {!asking.isLooking && asking.mask && (
        <>
          <div className="glr-name">New: {label ?? "which class?"}</div>
          {score !== null && <div className="glr-state">{percent(score)}</div>}
          {label === null && asking.reason && <div>⚠ No class is proposed: {asking.reason}. Type it.</div>}
          <div>
            <button type="button" onClick={() => (label === null ? onType() : review.keepFound(label))}>
              <kbd>Enter</kbd> {label === null ? "Type the class" : "Keep it"}
            </button>{" "}
            <button type="button" onClick={() => asking.drop()}>
              <kbd>Esc</kbd> Drop it
            </button>
          </div>
          {asking.found.length > 1 && (
            <div>
              <kbd>{shown(keys.nextFound)}</kbd> shows a part of it, or more ({asking.choice + 1} of {asking.found.length})
            </div>
          )}
          <ClassList classes={asking.mask.classes} onChoose={(name) => review.keepFound(name)} />
        </>
      )}
      <div>
        <kbd>Shift</kbd>+click: this belongs to it, too. <kbd>Alt</kbd>+click: this does not.
      </div>
    </div>
  );
}

/** All masks of the photo: the same as on it, for those who do not see the photo. */
function List({ session }: { session: Session }) {
  const review = session.photoReview;
  return (
    <ul className="glr-list" aria-label="Masks of the photo">
      {review.masks.map((each) => (
        <li key={each.details.label_id}>
          <button
            type="button"
            aria-pressed={each.details.label_id === review.chosen}
            aria-label={`${each.details.label ?? "no label"}, ${each.details.state}`}
            onClick={() => review.choose(each.details.label_id)}
          >
            <span className="glr-word">{nameOf(each)}</span>
            <span className="glr-number">{each.details.score === null ? "" : percent(each.details.score)}</span>
          </button>
        </li>
      ))}
    </ul>
  );
}
