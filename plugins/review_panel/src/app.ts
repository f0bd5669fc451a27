// What the FiftyOne App offers plugins as globals, as far as the panel uses it.

type RecoilAccess = { snapshot: { getLoadable: (atom: unknown) => { valueMaybe: () => any } }; set: (atom: unknown, value: unknown) => void };
type Recoil = {
  useRecoilValue: (atom: unknown) => any;
  useRecoilCallback: <T>(callback: (access: RecoilAccess) => T, inputs: unknown[]) => T;
};

declare global {
  interface Window {
    recoil: Recoil;
    __fos__: Record<string, any>;
    __foo__: {
      executeOperator: (uri: string, params: object) => unknown;
      registerOperator: (operator: new () => object, plugin: string) => void;
      Operator: new () => object;
      OperatorConfig: new (options: object) => object;
    };
    __fou__: { getFetchFunction: () => (method: string, path: string, body: object) => Promise<any> };
    __fop__: {
      registerComponent: (registration: object) => void;
      PluginComponentType: { Component: number };
    };
  }
}

/** What the App shows: sent along with requests, so that the server knows the dataset, the view and what is ticked. */
export type AppContext = {
  dataset_id: string | undefined;
  dataset_name: string | undefined;
  view: unknown;
  filters: unknown;
  selected: string[];
};

export function useAppContext(): AppContext {
  const { useRecoilValue } = window.recoil;
  const fos = window.__fos__;
  const dataset_id = useRecoilValue(fos.datasetId);
  const dataset_name = useRecoilValue(fos.datasetName);
  const view = useRecoilValue(fos.view);
  const filters = useRecoilValue(fos.filters);
  const ticked: Map<string, unknown> | Set<string> = useRecoilValue(fos.selectedSamples);
  return { dataset_id, dataset_name, view, filters, selected: [...ticked.keys()] };
}

export function useIsViewerOpen(): boolean {
  return Boolean(window.recoil.useRecoilValue(window.__fos__.isModalActive));
}

export function openViewer(sampleId: string): void {
  void window.__foo__.executeOperator("@voxel51/operators/open_sample", { id: sampleId });
}

/** Opens the form of an operator of ours, about a field. */
export function openForm(operator: "export_annotations" | "learn", field: string): void {
  const operator_uri = `@gem-label/gem-label/${operator}`;
  void window.__foo__.executeOperator("@voxel51/operators/prompt_user_for_operation", { operator_uri, params: { field } });
}

/** The grid keeps what it has loaded until it is told that samples changed. */
export function reloadGrid(): void {
  void window.__foo__.executeOperator("@voxel51/operators/reload_dataset", {});
}

export function photoAddress(filepath: string): string {
  return window.__fos__.getSampleSrc(filepath);
}
