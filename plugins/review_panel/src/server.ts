// The panel's Python methods, called by their addresses in the schema that the panel's `render` gives.
import type { AppContext } from "./app";
import { Claims } from "./claims";
import type { Interval } from "./statistics";

export type Reference = [sampleId: string, labelId: string];
export type Order = "teaches" | "uncertain" | "likely" | "random" | "photo" | "search" | "duplicates" | "second_look";
export type State = "undecided" | "accepted" | "rejected" | "renamed";

export type Details = {
  sample_id: string;
  label_id: string;
  filepath: string;
  photo: [number, number] | null;
  box: [number, number, number, number];
  size: [number, number];
  counts: string;
  label: string | null;
  score: number | null;
  state: State;
  decision: string | null;
  classes: [string, number | null][];
  problem: string | null;
};

export type FieldDescription = {
  fields: string[];
  field: string | null;
  main: string | null;
  less_likely: string | null;
  classes: { name: string; undecided: number }[];
  pairs: { label: string; runner_up: string; masks: number }[];
  author: string;
};

export type Answer = {
  outcome: "stored" | "conflict" | "gone";
  label: string | null;
  state: State | null;
  decision: string | null;
};

/** A mask that is not in the dataset: as it is stored, as it is drawn, and the classes that it may have. */
export type Found = {
  mask: { size: [number, number]; counts: string };
  box: [number, number, number, number];
  size: [number, number];
  counts: string;
  classes: [string, number][];
  margin: number | null;
};

/** Two masks that may be of one thing, by their ids: how much they have in common, or of the part in the whole. */
export type RepeatedMasks = { kind: "duplicate" | "part"; whole: string; part: string; share: number };

export type PhotoDetails = {
  sample_id: string;
  filepath: string;
  photo: [number, number] | null;
  masks: Details[];
  repeats: RepeatedMasks[];
};

/** The pages of a class; `label` is null where no class has undecided masks. */
export type PagesOfClass = { label: string | null; pages: Reference[][]; remaining: number };

/** The server understood the request and refused it: sending it again does not help. */
export class Refusal extends Error {}

const PATIENCE = 30_000; // milliseconds until a request without an answer counts as failed
const PATIENCE_WITH_MODELS = 300_000; // that are loaded first

export type ClassProgress = {
  label: string;
  reviewed: number;
  remaining: number;
  precision: Interval | null;
};

/** How good the labels are now; `more`: wanted precision and the decisions that it still takes. */
export type Quality = {
  labels: number;
  sample: number;
  missing: number;
  precision: Interval | null;
  more: [wanted: number, decisions: number][];
};

export type Progress = {
  total: ClassProgress;
  classes: ClassProgress[];
  people: { name: string | null; masks: number; per_minute: number | null }[];
  drawn: number;
  quality: Quality;
};

type MaskMethod = "describe_field" | "make_queue" | "get_details" | "decide" | "undo" | "make_pages";
type PhotoMethod = "make_photo_queue" | "get_photo" | "find_masks" | "add_mask";
type PeopleMethod = "get_progress" | "renew_claims" | "release_claims";
export type Methods = Record<MaskMethod | PhotoMethod | PeopleMethod, string>;

export class Server {
  readonly claims = new Claims();

  constructor(
    private readonly methods: Methods,
    public context: AppContext,
  ) {}

  describeField(field: string | null): Promise<FieldDescription> {
    return this.call("describe_field", { field });
  }

  makeQueue(question: { order: Order }): Promise<{ masks: Reference[]; remaining: number }> {
    const patience = ["search", "second_look"].includes(question.order) ? PATIENCE_WITH_MODELS : PATIENCE;
    return this.call("make_queue", { ...question, holder: this.claims.holder }, undefined, patience);
  }

  /** With `second_look`, masks that were decided before are shown too. */
  async getDetails(field: string, masks: Reference[], classes: string[], second_look = false): Promise<Details[]> {
    const { holder } = this.claims;
    const fresh = this.claims.fresh(masks);
    const { details } = await this.call("get_details", { field, masks, classes, holder, fresh, second_look });
    this.claims.receive(details);
    return details;
  }

  getProgress(field: string, seed: number): Promise<Progress> {
    return this.call("get_progress", { field, seed });
  }

  /** Renews the claims of this tab; gives the masks that somebody else has meanwhile. */
  async renewClaims(): Promise<string[]> {
    const held = this.claims.held();
    const { mine } = await this.call("renew_claims", { holder: this.claims.holder, masks: held });
    const kept = new Set<string>(mine);
    return held.filter((label) => !kept.has(label));
  }

  /** Gives all masks back; what cannot be given back goes back by itself after some minutes. */
  async releaseClaims(): Promise<void> {
    await this.call("release_claims", { holder: this.claims.holder }).catch(() => undefined);
  }

  makePages(question: object): Promise<PagesOfClass> {
    return this.call("make_pages", question);
  }

  makePhotoQueue(question: object): Promise<{ photos: string[]; remaining: number }> {
    return this.call("make_photo_queue", { ...question, holder: this.claims.holder });
  }

  /** A photo with all its masks; null: it is not in the dataset, or somebody else reviews it. */
  async getPhoto(field: string, sample_id: string, classes: string[]): Promise<PhotoDetails | null> {
    const { holder } = this.claims;
    const { photo } = await this.call("get_photo", { field, sample_id, classes, holder });
    if (photo) this.claims.receive(photo.masks.filter(({ state }: Details) => state === "undecided"));
    return photo;
  }

  /** What SAM sees at points or in a box; why no class is proposed. */
  findMasks(prompt: object): Promise<{ found: Found[]; reason: string | null }> {
    return this.call("find_masks", prompt, undefined, PATIENCE_WITH_MODELS);
  }

  async addMask(params: object, dataset: string): Promise<Answer[]> {
    return (await this.call("add_mask", params, dataset)).answers;
  }

  async decide(params: object, dataset: string): Promise<Answer[]> {
    return (await this.call("decide", params, dataset)).answers;
  }

  async undo(params: object, dataset: string): Promise<Answer[]> {
    return (await this.call("undo", params, dataset)).answers;
  }

  private async call(method: keyof Methods, params: object, dataset?: string, patience = PATIENCE): Promise<any> {
    const [operator_uri, __method__] = this.methods[method].split("#");
    const body = {
      ...this.context,
      ...(dataset ? { dataset_name: dataset } : {}),
      operator_uri,
      params: { ...params, __method__, panel_id: "gem-label-review" },
    };
    const request = window.__fou__.getFetchFunction()("POST", "/operators/execute", body);
    const answer = await withPatience(request, patience);
    if (answer.error) throw new Error(answer.error_message || lastLine(answer.error));
    if (answer.result?.error) throw new Refusal(answer.result.error);
    return answer.result;
  }
}

function withPatience<T>(work: Promise<T>, patience: number): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error("the server does not answer")), patience);
    work.then(resolve, reject).finally(() => clearTimeout(timer));
  });
}

function lastLine(traceback: unknown): string {
  return String(traceback).trim().split("\n").pop() ?? "unknown error";
}
