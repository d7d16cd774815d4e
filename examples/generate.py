#!/usr/bin/env python3
"""generate.py HOST:PORT PROMPT: asks a kvec service and prints the answer as it comes. Of the prompt,
256 tokens per KV head stay in the cache.

The gRPC stubs come with `pip install tests/longcontext`, or from proto/ with grpcio-tools:
python -m grpc_tools.protoc -Iproto --python_out=. --grpc_python_out=. kvec/v1/inference.proto
"""

import sys

import grpc
from kvec.v1 import inference_pb2 as pb
from kvec.v1 import inference_pb2_grpc


def main(target, prompt):
    request = pb.GenerateRequest(
        chat=pb.ChatMessages(messages=[pb.ChatMessage(role="user", content=prompt)]),
        sampling=pb.SamplingParameters(temperature=0),
        stopping=pb.StoppingCriteria(max_tokens=64),
        cache=pb.CachePolicy(policy="kvec", budget_tokens=256))
    with grpc.insecure_channel(target) as channel:
        stub = inference_pb2_grpc.InferenceStub(channel)
        try:
            for response in stub.Generate(request):
                print(response.text, end="", flush=True)
                if response.HasField("usage"):
                    usage = response.usage
                    print(f"\n[{usage.prompt_tokens} prompt tokens, {usage.evicted_tokens} evicted, "
                          f"{usage.completion_tokens} generated]")
        except grpc.RpcError as error:
            sys.exit(f"error: {error.details()}")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        print(__doc__, file=sys.stderr)
        sys.exit(2)
    main(*sys.argv[1:])
