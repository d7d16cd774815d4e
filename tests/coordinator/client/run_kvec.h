#ifndef KVEC_TESTS_COORDINATOR_CLIENT_RUN_KVEC_H_
#define KVEC_TESTS_COORDINATOR_CLIENT_RUN_KVEC_H_

#include <sstream>
#include <string>
#include <vector>

#include "coordinator/client/command_line.h"

namespace kvec::coordinator::client {

// What a run of `kvec` did.
struct CommandResult {
  ExitCode exit_code;
  std::string out;
  std::string err;
};

// Runs `kvec` with these arguments and this standard input.
inline CommandResult RunKvec(const std::vector<std::string>& arguments,
                             const std::string& input = "") {
  std::istringstream in(input);
  std::ostringstream out;
  std::ostringstream err;
  Terminal terminal{in, out, err};
  const ExitCode exit_code = RunCommandLine(arguments, terminal, /*interrupts=*/nullptr);
  return {exit_code, out.str(), err.str()};
}

}  // namespace kvec::coordinator::client

#endif  // KVEC_TESTS_COORDINATOR_CLIENT_RUN_KVEC_H_
