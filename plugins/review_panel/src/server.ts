// The panel's Python methods, called by their addresses in the schema that the panel's `render` gives.
import type { AppContext } from "./app";
import { Claims } from "./claims";
import type { Interval } from "./statistics";

export type Reference = [sampleId: string, labelId: string];
export type Order = "uncertain" | "likely" | "random" | "photo" | "search" | "duplicates";
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

/** The server understood the request and refused it: sending it again does not help. */
export class Refusal extends Error {}

const PATIENCE = 30_000; // milliseconds until a request without an answer counts as failed

export type ClassProgress = {
  label: string;
  reviewed: number;
  remaining: number;
  precision: Interval | null;
};

export type Progress = {
  total: ClassProgress;
  classes: ClassProgress[];
  people: { name: string | null; masks: number; per_minute: number | null }[];
  drawn: number;
};

type ClaimMethod = "renew_claims" | "release_claims";
type Method = "describe_field" | "make_queue" | "get_details" | "decide" | "undo" | "get_progress" | ClaimMethod;
export type Methods = Record<Method, string>;

export class Server {
  readonly claims = new Claims();

  constructor(
    private readonly methods: Methods,
    public context: AppContext,
  ) {}

  describeField(field: string | null): Promise<FieldDescription> {
    return this.call("describe_field", { field });
  }

  makeQueue(question: object): Promise<{ masks: Reference[]; remaining: number }> {
    return this.call("make_queue", { ...question, holder: this.claims.holder });
  }

  async getDetails(field: string, masks: Reference[], classes: string[]): Promise<Details[]> {
    const { holder } = this.claims;
    const fresh = this.claims.fresh(masks);
    const { details } = await this.call("get_details", { field, masks, classes, holder, fresh });
    this.claims.receive(details);
    return details;
  }

  getProgress(field: string): Promise<Progress> {
    return this.call("get_progress", { field });
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

  decide(params: object, dataset: string): Promise<Answer> {
    return this.call("decide", params, dataset);
  }

  undo(params: object, dataset: string): Promise<Answer> {
    return this.call("undo", params, dataset);
  }

  private async call(method: keyof Methods, params: object, dataset?: string): Promise<any> {
    const [operator_uri, __method__] = this.methods[method].split("#");
    const body = {
      ...this.context,
      ...(dataset ? { dataset_name: dataset } : {}),
      operator_uri,
      params: { ...params, __method__, panel_id: "gem-label-review" },
    };
    const answer = await withPatience(window.__fou__.getFetchFunction()("POST", "/operators/execute", body));
    if (answer.error) throw new Error(answer.error_message || lastLine(answer.error));
    if (answer.result?.error) throw new Refusal(answer.result.error);
    return answer.result;
  }
}

function withPatience<T>(work: Promise<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error("the server does not answer")), PATIENCE);
    work.then(resolve, reject).finally(() => clearTimeout(timer));
  });
}

function lastLine(traceback: unknown): string {
  return String(traceback).trim().split("\n").pop() ?? "unknown error";
}
