// Colors are the App's own, so that the panel is light or dark with it.

export const STYLES = `
.glr { --line: var(--fo-palette-divider, #8884); --accent: var(--fo-palette-primary-plainColor, #ff6d04);
  display: grid; grid-template-rows: auto minmax(0, 1fr) auto; gap: 8px; height: 100%; padding: 8px 8px 12px; box-sizing: border-box;
  position: relative; outline: none; font: 14px/1.35 Palanquin, system-ui, sans-serif;
  color: var(--fo-palette-text-primary); background: var(--fo-palette-background-level2); container-type: inline-size; }
.glr:focus-visible, .glr:focus { box-shadow: inset 0 0 0 2px var(--accent); }
.glr * { box-sizing: border-box; font-family: inherit; }
.glr-bar { display: flex; flex-wrap: wrap; gap: 6px 10px; align-items: center; }
.glr label { display: inline-flex; gap: 5px; align-items: center; color: var(--fo-palette-text-secondary); }
.glr select, .glr input[type=text], .glr input[type=number], .glr button { font-size: 13px; color: var(--fo-palette-text-primary);
  background: var(--fo-palette-background-level1); border: 1px solid var(--line); border-radius: 4px; padding: 4px 7px; }
.glr select { max-width: 200px; }
.glr input[type=number] { width: 64px; }
.glr input[type=range] { accent-color: var(--accent); width: 80px; }
.glr button { cursor: pointer; display: inline-flex; gap: 7px; align-items: center; text-align: left; }
.glr button:hover:not(:disabled) { border-color: var(--accent); }
.glr button:disabled { opacity: .45; cursor: default; }
.glr :is(button, select, input):focus-visible { outline: 2px solid var(--accent); outline-offset: 1px; }
.glr kbd { font: 600 12px/1 ui-monospace, monospace; min-width: 20px; padding: 3px 5px; text-align: center; border-radius: 4px;
  border: 1px solid var(--fo-palette-text-tertiary, #888); background: var(--fo-palette-background-level3);
  color: var(--fo-palette-text-primary); }
.glr-mode { display: grid; grid-template-rows: minmax(0, 1fr) auto; gap: 8px; min-height: 0; min-width: 0; }
.glr-tabs { display: inline-flex; }
.glr-tabs button { border-radius: 0; margin-left: -1px; }
.glr-tabs button[aria-selected=true] { background: var(--fo-palette-background-level3); box-shadow: inset 0 -2px 0 var(--accent); font-weight: 600; }
.glr-main { display: grid; grid-template-columns: minmax(0, 1fr) 288px; gap: 10px; min-height: 0; }
.glr-stage { position: relative; min-height: 0; min-width: 0; background: #202020; border-radius: 4px; overflow: hidden; }
.glr-stage canvas { position: absolute; inset: 0; width: 100%; height: 100%; display: block; }
.glr-note { position: absolute; inset: auto 10px 10px; padding: 8px 10px; border-radius: 4px; background: #000c; color: #fff; }
.glr-middle { position: absolute; inset: 0; display: flex; flex-direction: column; gap: 10px; align-items: center;
  justify-content: center; color: #eee; text-align: center; padding: 20px; }
.glr-side { display: flex; flex-direction: column; gap: 8px; min-height: 0; overflow-y: auto; padding: 2px; }
.glr-photo { flex: 1 1 200px; max-height: 240px; min-height: 72px; position: relative; background: #202020; border-radius: 4px; overflow: hidden; }
.glr-photo canvas { position: absolute; inset: 0; width: 100%; height: 100%; }
.glr-name { font-size: 20px; font-weight: 600; overflow-wrap: anywhere; line-height: 1.2; }
.glr-score { display: grid; grid-template-columns: 1fr auto; gap: 8px; align-items: center; }
.glr-track { height: 8px; border-radius: 4px; background: var(--fo-palette-background-level3); overflow: hidden; border: 1px solid var(--line); }
.glr-track > div { height: 100%; background: var(--accent); }
.glr-state { font-size: 13px; color: var(--fo-palette-text-secondary); }
.glr-classes { display: grid; gap: 2px; margin: 0; padding: 0; list-style: none; }
.glr-classes button { width: 100%; padding: 1px 6px; line-height: 1.3; }
.glr-classes kbd { padding: 2px 5px; }
.glr-classes .glr-word { flex: 1; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.glr-number { color: var(--fo-palette-text-secondary); font-variant-numeric: tabular-nums; }
.glr-phrase { display: inline-flex; gap: 6px; align-items: center; }
.glr-tools { display: flex; flex-wrap: wrap; gap: 4px 6px; align-items: center; }
.glr-tools button { padding: 3px 7px; gap: 5px; }
.glr-sliders { margin-left: auto; display: inline-flex; gap: 10px; }
.glr-summary { min-height: 0; overflow-y: auto; display: flex; flex-direction: column; gap: 10px; padding: 4px 2px; }
.glr-summary p { margin: 0; max-width: 90ch; color: var(--fo-palette-text-secondary); }
.glr-summary .glr-total { font-size: 16px; }
.glr-summary b { color: var(--fo-palette-text-primary); }
.glr-table { border-collapse: collapse; width: 100%; max-width: 900px; }
.glr-table th { text-align: left; font-weight: 600; color: var(--fo-palette-text-secondary); }
.glr-table :is(th, td) { padding: 3px 12px 3px 0; border-bottom: 1px solid var(--line); white-space: nowrap; }
.glr-table :is(th, td):first-child { white-space: normal; overflow-wrap: anywhere; min-width: 84px; width: 100%; }
.glr-table td button { padding: 1px 7px; }
.glr-table .glr-track { width: 72px; }
.glr-progress { display: flex; flex-wrap: wrap; gap: 4px 18px; min-height: 21px; color: var(--fo-palette-text-secondary); font-variant-numeric: tabular-nums; align-items: center; }
.glr-progress b { color: var(--fo-palette-text-primary); font-weight: 600; }
.glr-trouble { color: var(--fo-palette-text-primary); border: 1px solid var(--fo-palette-warning-main, #d80); border-radius: 4px; padding: 4px 8px; width: 100%; }
.glr-over { position: absolute; inset: 0; z-index: 5; background: #000a; display: flex; align-items: flex-start; justify-content: center; padding: 12px; overflow: auto; }
.glr-sheet { background: var(--fo-palette-background-level1); border: 1px solid var(--line); border-radius: 6px; padding: 12px 16px; max-width: 600px; width: 100%; }
.glr-sheet :is(button, input[type=text]) { background: var(--fo-palette-background-level3); border-color: var(--fo-palette-text-tertiary, #888); }
.glr-sheet h2 { font-size: 16px; margin: 0 0 8px; }
.glr-sheet table { border-collapse: collapse; width: 100%; }
.glr-sheet td { padding: 1.5px 8px 1.5px 0; line-height: 1.2; }
.glr-sheet td:first-child { white-space: nowrap; }
.glr-sheet td kbd { display: inline-block; padding: 2px 5px; }
.glr-sheet td button { padding: 0 6px; }
.glr-sheet p { margin: 8px 0; color: var(--fo-palette-text-secondary); }
.glr-sheet > input[type=text] { width: 100%; font-size: 16px; padding: 7px 9px; }
.glr-sheet ul { list-style: none; margin: 8px 0 0; padding: 0; max-height: 300px; overflow: auto; }
.glr-sheet li { padding: 5px 9px; border-radius: 4px; cursor: pointer; border-left: 3px solid transparent; }
.glr-sheet li[aria-selected=true] { background: var(--fo-palette-background-level3); border-left-color: var(--accent); }
.glr-hidden { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
@container (max-width: 540px) { .glr-wide { display: none; } }
@container (max-width: 720px) { .glr-main { grid-template-columns: minmax(0, 1fr) 216px; } .glr-name { font-size: 17px; } }
`;
