import * as React from "react";

/** Keys that are pressed inside an element, and that FiftyOne's own shortcuts do not get. */
export function useKeys(root: React.RefObject<HTMLElement>, press: (event: KeyboardEvent) => boolean): void {
  const latest = React.useRef(press);
  latest.current = press;
  React.useEffect(() => {
    const element = root.current!;
    const listen = (event: KeyboardEvent) => {
      event.stopPropagation();
      const target = event.target as HTMLElement;
      const isTyping = target.closest("input[type=text], input[type=number], textarea, .glr-over");
      if (event.ctrlKey || event.metaKey || event.altKey || isTyping) return;
      // in a list of choices, letters and arrows are its own
      if (target.closest("select, input[type=range]")) return;
      if (latest.current(event)) event.preventDefault();
    };
    element.addEventListener("keydown", listen);
    return () => element.removeEventListener("keydown", listen);
  }, [root]);
}
