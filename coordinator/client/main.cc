// The `kvec` command.

#include <unistd.h>

#include <cstdlib>
#include <iostream>
#include <string>
#include <vector>

#include "coordinator/client/command_line.h"
#include "coordinator/client/interrupt_watcher.h"
#include "coordinator/client/terminal.h"

int main(int argc, char** argv) {
  using namespace kvec::coordinator::client;
  // gRPC would log each failed connection; the commands report what matters themselves.
  setenv("GRPC_VERBOSITY", "NONE", /*overwrite=*/0);
  InterruptWatcher interrupts;
  Terminal terminal{std::cin,
                    std::cout,
                    std::cerr,
                    isatty(STDIN_FILENO) == 1,
                    isatty(STDERR_FILENO) == 1,
                    isatty(STDOUT_FILENO) == 1};
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  return static_cast<int>(RunCommandLine(arguments, terminal, &interrupts));
}
