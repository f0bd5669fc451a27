import * as React from "react";
import { Buttons } from "../Buttons";
import type { Action, Keys } from "../keys";
import type { Session } from "../session";

const BUTTONS: [Action, string][] = [
  ["acceptPhoto", "Accept all"],
  ["accept", "Accept"],
  ["reject", "Reject"],
  ["type", "Other class"],
  ["keepOfPair", "Keep of two"],
  ["nextPair", "Next pair"],
  ["undo", "Undo"],
  ["redo", "Redo"],
  ["previousPhoto", "Photo before"],
  ["nextPhoto", "Next photo"],
  ["edit", "Edit"],
  ["help", "Keys"],
];

type Properties = { session: Session; keys: Keys; act: (action: Action) => boolean };

/** What can be done with the photo and its masks, each with its key. */
export function Toolbar({ session, keys, act }: Properties) {
  const review = session.photoReview;
  const isAsking = review.asking.prompt !== null;
  const noMask = !review.mask || isAsking;
  const disabled: Partial<Record<Action, boolean>> = {
    acceptPhoto: !review.picture?.photo || isAsking,
    accept: noMask,
    reject: noMask,
    type: isAsking ? !review.asking.mask : !review.mask,
    keepOfPair: noMask || !review.chosenPair,
    nextPair: isAsking || !review.pairs.length,
    undo: !session.canUndo,
    redo: !session.canRedo,
    previousPhoto: review.position === 0,
    nextPhoto: review.sample === null,
    edit: review.sample === null,
  };
  return <Buttons buttons={BUTTONS} keys={keys} disabled={disabled} act={act} />;
}
