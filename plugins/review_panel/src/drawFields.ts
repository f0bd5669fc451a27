// The operator "draw_fields": the label fields that the App draws, and no others.
//
// FiftyOne's own `set_active_fields` is lost when a view arrives in the same moment (docs/fiftyone-issues.md). This one
// looks for a while whether the fields from before came back, and sets the wanted ones again.

const LOOK_EVERY = 250; // milliseconds
const LOOK_FOR = 60_000; // a busy machine takes as long to load a view

const { Operator, OperatorConfig } = window.__foo__;

type Hooks = { read: () => string[] | undefined; write: (fields: string[]) => void };

export class DrawFields extends Operator {
  private calls = 0;

  get config(): object {
    return new OperatorConfig({ name: "draw_fields", label: "GEM-Label: Draw label fields", unlisted: true });
  }

  useHooks(): Hooks {
    const { useRecoilCallback } = window.recoil;
    const active = window.__fos__.activeFields({ modal: false });
    return {
      // undefined while a page is loaded; a promise of it may never be kept
      read: useRecoilCallback(({ snapshot }) => () => snapshot.getLoadable(active).valueMaybe(), []),
      write: useRecoilCallback(({ set }) => (fields: string[]) => set(active, fields), []),
    };
  }

  async execute({ hooks, params }: { hooks: Hooks; params: { fields: string[] } }): Promise<void> {
    const call = ++this.calls; // a later call takes the place of this one
    const before = hooks.read();
    hooks.write(params.fields);
    void this.watch(hooks, before, params.fields, call);
  }

  /** Sets the fields again when those from before come back; ends when somebody chooses others. */
  private async watch(hooks: Hooks, before: string[] | undefined, wanted: string[], call: number): Promise<void> {
    for (let waited = 0; waited < LOOK_FOR; waited += LOOK_EVERY) {
      await new Promise((resolve) => setTimeout(resolve, LOOK_EVERY));
      if (call !== this.calls) return;
      const now = hooks.read();
      if (!now || isSame(now, wanted)) continue;
      before ??= now;
      if (!isSame(now, before)) return;
      hooks.write(wanted);
    }
  }
}

function isSame(one: string[], other: string[]): boolean {
  return one.length === other.length && one.every((field) => other.includes(field));
}
