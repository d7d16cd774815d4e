// A file for --config, as the coordinator and the worker read it.
#include <iostream>
#include <string>

#include "coordinator/server/coordinator_flags.h"
#include "tests/fuzz/fuzz_input.h"
#include "worker/server/worker_flags.h"

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  // What the parser tells people, thousands of times a second.
  std::cout.rdbuf(nullptr);
  std::cerr.rdbuf(nullptr);
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const kvec::MemoryFile file(kvec::AsText(data, size));
  std::string arguments[] = {"kvec", "--config", file.path()};
  char* argv[] = {arguments[0].data(), arguments[1].data(), arguments[2].data()};
  kvec::coordinator::server::CoordinatorFlags coordinator;
  if (!ParseCoordinatorFlags(std::size(argv), argv, coordinator).has_value()) {
    ServerOptions(coordinator).IgnoreError();
  }
  kvec::worker::server::WorkerFlags worker;
  ParseWorkerFlags(std::size(argv), argv, worker);
  return 0;
}
