import * as React from "react";
import type { Order } from "./server";
import type { Session } from "./session";

type Choice = Order | "less_likely";

const CHOICES: [Choice, string][] = [
  ["teaches", "What teaches most"],
  ["uncertain", "Least certain first"],
  ["likely", "Highest score first"],
  ["random", "Random sample"],
  ["photo", "Photo by photo"],
  ["duplicates", "Likely duplicates"],
  ["second_look", "Second look: likely mistakes"],
  ["search", "Best match of a phrase"],
  ["less_likely", "What a lower threshold adds"],
];

/** In which order masks are reviewed; a search has its phrase beside it. */
export function OrderChoice({ session }: { session: Session }) {
  const { question, description } = session;
  const lessLikely = description?.less_likely ?? null;
  const isLessLikely = question.order === "likely" && lessLikely !== null && question.field === lessLikely;
  const [typing, setTyping] = React.useState(false);
  const asked: Choice = isLessLikely ? "less_likely" : question.order;
  const chosen = typing ? "search" : asked;
  const choose = (choice: Choice) => {
    setTyping(choice === "search"); // a search begins when its phrase is there
    if (choice === "search") return;
    if (choice === "less_likely") return session.ask({ order: "likely", field: lessLikely });
    session.ask({ order: choice, ...(isLessLikely ? { field: description?.main ?? null } : {}) });
  };
  return (
    <>
      <label>
        Order
        <select value={chosen} onChange={(event) => choose(event.target.value as Choice)}>
          {CHOICES.filter(([choice]) => choice !== "less_likely" || lessLikely !== null).map(([choice, name]) => (
            <option key={choice} value={choice}>
              {name}
            </option>
          ))}
        </select>
      </label>
      {chosen === "search" && (
        <Phrase
          phrase={question.phrase}
          isNew={typing}
          onSearch={(phrase) => {
            setTyping(false);
            session.ask({ order: "search", phrase });
          }}
        />
      )}
    </>
  );
}

type PhraseProperties = { phrase: string; isNew: boolean; onSearch: (phrase: string) => void };

/** The phrase of a search; Enter searches, and then keys decide. */
function Phrase({ phrase, isNew, onSearch }: PhraseProperties) {
  const [text, setText] = React.useState(phrase);
  const input = React.useRef<HTMLInputElement>(null);
  React.useEffect(() => {
    if (isNew) input.current?.focus();
  }, [isNew]);
  const typed = text.trim();
  return (
    <form
      className="glr-phrase"
      role="search"
      onSubmit={(event) => {
        event.preventDefault();
        if (!typed) return;
        onSearch(typed);
        input.current?.closest<HTMLElement>(".glr")?.focus({ preventScroll: true });
      }}
    >
      <label>
        Phrase
        <input
          type="text"
          ref={input}
          value={text}
          placeholder="a broken window"
          onChange={(event) => setText(event.target.value)}
        />
      </label>
      <button type="submit" disabled={!typed}>
        Search
      </button>
    </form>
  );
}
