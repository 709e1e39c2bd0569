// A classifier exported by edgeclf, one step of all its streams at a time. Start your own client from this file.
//
// The graph keeps nothing: its memory goes in as `state.X`, comes out as `next_state.X`, and is this class's to keep.
// All that is needed for it are the names of the graph's inputs and outputs.

import * as ort from 'onnxruntime-node';

import { fromHalf, toHalf } from './half.mjs';

const KEEP_MEMORY = 'keep_memory';
const STATE = 'state.';

/** What makes a tensor's data out of numbers, for each element type that a step graph has. */
const ARRAYS = {
  float32: (values) => Float32Array.from(values, Number),
  float16: (values) => toHalf(values),
  int64: (values) => BigInt64Array.from(values, BigInt),
};

export class StepModel {
  #session;
  #types;
  #streams;
  #input;
  #state = new Map();
  #keep;

  /**
   * Loads a model; its streams start with empty memory.
   * @param {string} path of the .onnx file
   * @param {number} streams how many recordings or cameras run side by side: the batch
   * @param {ort.InferenceSession.SessionOptions} options threads, execution providers, ...
   * @throws {Error} where the file is no step graph, or one for another number of streams
   */
  static async load(path, streams = 1, options = {}) {
    return new StepModel(await ort.InferenceSession.create(path, options), streams);
  }

  /** For `load`: a constructor cannot wait for the session. */
  constructor(session, streams) {
    this.#session = session;
    this.#streams = streams;
    this.#keep = new Float32Array(streams).fill(1);
    this.#types = new Map(session.inputMetadata.map((input) => [input.name, input.type]));
    const inputs = session.inputMetadata.filter(({ name }) => name !== KEEP_MEMORY && !name.startsWith(STATE));
    if (inputs.length !== 1 || !['logits', 'probabilities'].every((name) => session.outputNames.includes(name))) {
      throw new Error(`it is no step graph of edgeclf: its inputs are ${session.inputNames.join(', ')}`);
    }
    this.#input = inputs[0];
    for (const { name, type, shape } of session.inputMetadata.filter(({ name }) => name.startsWith(STATE))) {
      if (!session.outputNames.includes(`next_${name}`)) throw new Error(`its ${name} has no next_${name}`);
      if (![streams, undefined].includes(fixed(shape[0]))) {
        throw new Error(`it was exported for ${shape[0]} streams at a time, and ${streams} are asked for`);
      }
      const dims = [streams, ...shape.slice(1)];
      this.#state.set(name, new ort.Tensor(type, ARRAYS[type](new Float32Array(product(dims))), dims));
    }
  }

  /** Name of what a step takes: `frames`, or `events` where the graph makes its frames itself. */
  get inputName() {
    return this.#input.name;
  }

  /** Whether the graph can clear a stream's memory; where it cannot, or there is none, this class sees to it. */
  get takesKeepMemory() {
    return this.#types.has(KEEP_MEMORY);
  }

  /** Names of the memory's tensors without their prefix, e.g. `conv2.0.h`. @returns {string[]} */
  get stateNames() {
    return [...this.#state.keys()].map((name) => name.slice(STATE.length));
  }

  /** Returns a tensor of the memory, `[streams, ...]`. @returns {{shape: number[], data: Float32Array}} */
  state(name) {
    return numbers(this.#state.get(STATE + name));
  }

  /** Empties a stream's memory before its next step: a new recording starts, or something new is shown. */
  reset(stream) {
    this.#keep[stream] = 0;
  }

  /**
   * Runs one step.
   * @param {TypedArray} values an event frame of each stream, `[streams, channels, height, width]`, one after the
   *   other, preprocessed as the model's contract says; or one stream's events, `[N, 4]`: x, y, polarity, µs
   * @param {ArrayLike<number>} keep for each stream 0 where it starts anew, else 1; default: what `reset` was told
   * @returns {Promise<{logits, probabilities}>} each `{shape: [streams, labels], data: Float32Array}`
   */
  async step(values, keep = this.#keep) {
    const rest = this.#input.shape.slice(1);
    const dims = [values.length / product(rest), ...rest];
    if (!Number.isInteger(dims[0]) || (this.inputName === 'frames' && dims[0] !== this.#streams)) {
      throw new Error(`a step takes ${this.#streams} x ${rest.join(' x ')} values, and was given ${values.length}`);
    }
    const feeds = { [this.inputName]: this.#tensor(this.inputName, values, dims) };
    if (this.takesKeepMemory) {
      feeds[KEEP_MEMORY] = this.#tensor(KEEP_MEMORY, keep, [this.#streams]);
    } else {
      this.#clear(keep);
    }
    const outputs = await this.#session.run({ ...feeds, ...Object.fromEntries(this.#state) });
    // The whole contract: what came out as `next_state.X` goes in as `state.X`.
    for (const name of this.#state.keys()) this.#state.set(name, outputs[`next_${name}`]);
    this.#keep.fill(1);
    return { logits: numbers(outputs.logits), probabilities: numbers(outputs.probabilities) };
  }

  #tensor(name, values, dims) {
    const type = this.#types.get(name);
    return new ort.Tensor(type, ARRAYS[type](values), dims);
  }

  /** Empties the memory of the streams whose `keep` is 0, for a graph that was exported without `keep_memory`. */
  #clear(keep) {
    for (const { data } of this.#state.values()) {
      const size = data.length / this.#streams;
      for (let i = 0; i < this.#streams; i++) if (!keep[i]) data.fill(0, i * size, (i + 1) * size);
    }
  }
}

const product = (sizes) => sizes.reduce((a, b) => a * b, 1);

/** A size that is not fixed has a name in its place. */
const fixed = (size) => (typeof size === 'number' ? size : undefined);

/** Returns what is in a tensor as float32, float16 included. */
function numbers(tensor) {
  const data = tensor.data instanceof Uint16Array ? fromHalf(tensor.data) : Float32Array.from(tensor.data);
  return { shape: [...tensor.dims], data };
}
