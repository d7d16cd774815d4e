"""Measures one point with OpenVINO GenAI; runs in the environment of install_openvino_genai.sh.

Weights as converted; arithmetic and KV cache as OpenVINO chooses on this processor (bf16 and u8
where it has bf16 instructions).
"""

import openvino
import openvino_genai

import step_engine

# What its eviction never evicts: the first and the last tokens of a sequence.
START_TOKENS = 32
RECENT_TOKENS = 128


class OpenVinoEngine(step_engine.StepEngine):
    def __init__(self, args):
        scheduler = openvino_genai.SchedulerConfig()
        scheduler.max_num_batched_tokens = args.chunk_tokens
        scheduler.max_num_seqs = args.point.batch
        scheduler.cache_size = 2  # GiB
        scheduler.enable_prefix_caching = False
        if args.point.budget is not None:
            scheduler.use_cache_eviction = True
            scheduler.cache_eviction_config = openvino_genai.CacheEvictionConfig(
                start_size=START_TOKENS,
                recent_size=RECENT_TOKENS,
                max_cache_size=args.point.budget,
                aggregation_mode=openvino_genai.AggregationMode.NORM_SUM,
            )
        self._pipeline = openvino_genai.ContinuousBatchingPipeline(
            args.model, scheduler, "CPU", {"INFERENCE_NUM_THREADS": args.threads}
        )
        self._config = openvino_genai.GenerationConfig()
        self._config.max_new_tokens = step_engine.MAX_TOKENS
        self._config.ignore_eos = True
        self._handles = []

    def start(self, prompts):
        self._handles = [
            self._pipeline.add_request(i, self._tensor(prompt), self._config)
            for i, prompt in enumerate(prompts)
        ]

    def step(self):
        self._pipeline.step()
        return [self._read(handle) for handle in self._handles]

    def stop(self):
        for handle in self._handles:
            handle.cancel()
        while self._pipeline.has_non_finished_requests():
            self._pipeline.step()
        self._handles = []

    @staticmethod
    def _tensor(prompt):
        tensor = openvino.Tensor(openvino.Type.i64, openvino.Shape([1, len(prompt)]))
        tensor.data[0] = prompt
        return tensor

    @staticmethod
    def _read(handle) -> int:
        count = 0
        while handle.can_read():
            count += sum(len(output.generated_ids) for output in handle.read().values())
        return count


if __name__ == "__main__":
    step_engine.run(OpenVinoEngine, chunk_tokens=(int, 1024))
