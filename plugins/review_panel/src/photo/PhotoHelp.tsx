import * as React from "react";

/** What the mouse does on a photo, and the keys that cannot be changed. */
export function PhotoHelp() {
  const rows: [React.ReactNode, string][] = [
    ["click", "on a mask: hold it while the mouse moves on; beside all masks: find the thing there"],
    ["drag", "a box around a thing that is missing"],
    [<kbd>Shift</kbd>, "and click: find the thing here, or: this belongs to it, too"],
    [<kbd>Alt</kbd>, "and click: this does not belong to it"],
    [<kbd>Enter</kbd>, "keep what was found"],
    [<kbd>Esc</kbd>, "drop what was found"],
  ];
  return (
    <>
      {rows.map(([key, does]) => (
        <tr key={does}>
          <td>{key}</td>
          <td colSpan={2}>{does}</td>
        </tr>
      ))}
    </>
  );
}
