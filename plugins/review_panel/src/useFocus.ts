import * as React from "react";
import { useIsViewerOpen } from "./app";

/** Calls back when FiftyOne's viewer was closed. */
export function useReturn(back: () => void): void {
  const isOpen = useIsViewerOpen();
  const wasOpen = React.useRef(isOpen);
  React.useEffect(() => {
    if (wasOpen.current && !isOpen) back();
    wasOpen.current = isOpen;
  });
}

/** Gives the panel the focus once something is drawn: the App gives it to the panel's tab when it opens it. */
export function useFirstFocus(isDrawn: boolean, focus: () => void): void {
  React.useEffect(() => {
    if (isDrawn && !document.activeElement?.closest("input, textarea, select, [role=dialog]")) focus();
  }, [isDrawn, focus]);
}
