#ifndef KVEC_COORDINATOR_CLIENT_COMMAND_LINE_H_
#define KVEC_COORDINATOR_CLIENT_COMMAND_LINE_H_

#include <string>
#include <vector>

#include "coordinator/client/interrupt_watcher.h"
#include "coordinator/client/terminal.h"

namespace kvec::coordinator::client {

// What scripts may rely on.
enum class ExitCode { kDone = 0, kFailed = 1, kWrongUsage = 2 };

// Runs `kvec` with these arguments (without the program's name). Errors go to `terminal.err`.
ExitCode RunCommandLine(const std::vector<std::string>& arguments, Terminal& terminal,
                        InterruptWatcher* interrupts);

}  // namespace kvec::coordinator::client

#endif  // KVEC_COORDINATOR_CLIENT_COMMAND_LINE_H_
