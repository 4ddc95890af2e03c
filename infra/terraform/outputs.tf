output "lambda_function_arn" {
  description = "ARN of the function."
  value       = aws_lambda_function.this.arn
}

output "lambda_function_name" {
  description = "Name of the function."
  value       = aws_lambda_function.this.function_name
}

output "lambda_role_arn" {
  description = "ARN of the function's role. A queue of another account must allow it."
  value       = aws_iam_role.function.arn
}

output "lambda_role_name" {
  description = "Name of the function's role."
  value       = aws_iam_role.function.name
}

output "lambda_cloudwatch_log_group_arn" {
  description = "ARN of the log group with one record for each tick."
  value       = aws_cloudwatch_log_group.this.arn
}

output "lambda_cloudwatch_log_group_name" {
  description = "Name of the log group with one record for each tick."
  value       = aws_cloudwatch_log_group.this.name
}

output "schedule_arn" {
  description = "ARN of the schedule."
  value       = aws_scheduler_schedule.this.arn
}

output "state_bucket" {
  description = "Name of the bucket of the state."
  value       = aws_s3_bucket.state.id
}

output "dlq_arn" {
  description = "ARN of the queue with the ticks that failed or could not be delivered."
  value       = aws_sqs_queue.dead_letters.arn
}

output "alarm_arns" {
  description = "ARNs of the alarms, by what they tell."
  value = {
    errors = aws_cloudwatch_metric_alarm.errors.arn
    silent = aws_cloudwatch_metric_alarm.silent.arn
  }
}

output "iam_policy_json" {
  description = "Policy of the function's role, for review."
  value       = data.aws_iam_policy_document.function.json
}

output "dry_run_command" {
  description = "Runs one tick now that decides and explains but changes nothing."
  value       = "aws lambda invoke --region ${local.region} --function-name ${aws_lambda_function.this.function_name} --cli-binary-format raw-in-base64-out --payload '{\"config\":{\"dry_run\":true}}' /dev/stdout"
}
