#ifndef KVEC_COORDINATOR_CLIENT_TARGET_OPTION_H_
#define KVEC_COORDINATOR_CLIENT_TARGET_OPTION_H_

#include <string>

#include "CLI/CLI.hpp"

namespace kvec::coordinator::client {

inline constexpr char kDefaultTarget[] = "127.0.0.1:50051";

// --target, which every command has.
CLI::Option* AddTargetOption(CLI::App& command, std::string& target);

}  // namespace kvec::coordinator::client

#endif  // KVEC_COORDINATOR_CLIENT_TARGET_OPTION_H_
